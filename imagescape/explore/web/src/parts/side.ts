/** The side of the page: which map, which colours and names, which filters, which tags. */

import { button, counted, element, fill, readable } from '../dom'
import type { Explorer } from '../explorer'
import { currentTheme } from '../theme'
import { conditionText, legend } from './legend'
import { complain } from './notices'

export interface SideActions {
  rename: (column: string, code: number) => void
}

export class Side {
  private readonly choices = element('section')
  private readonly legend = element('section', { attributes: { 'aria-label': 'Legend' } })
  private readonly filters = element('section', { attributes: { 'aria-label': 'Filters' } })
  private readonly tags = element('section', { attributes: { 'aria-label': 'Tags and marks' } })

  constructor(
    node: HTMLElement,
    private readonly explorer: Explorer,
    private readonly actions: SideActions,
  ) {
    node.append(this.choices, this.legend, this.filters, this.tags)
    explorer.onRepaint(() => this.write())
    this.writeChoices()
  }

  write(): void {
    this.writeChoices()
    this.writeLegend()
    this.writeFilters()
    this.writeTags()
  }

  private writeChoices(): void {
    const { explorer } = this
    const { maps, columns, clusterings } = explorer.client.about
    const { map, colorBy, clustering } = explorer.state.values
    const colorable = columns.filter(({ kind }) => kind === 'classes' || kind === 'amounts')
    const choose = (work: () => Promise<void>) => void work().catch(complain)
    fill(
      this.choices,
      choice(
        'Map',
        map,
        maps.map((one) => [one.name, one.name]),
        (name) => choose(() => explorer.chooseMap(name)),
      ),
      choice('Colour', colorBy, [['', 'one colour'], ...colorable.map(({ name }) => [name, name] as const)], (name) =>
        explorer.state.set({ colorBy: name }),
      ),
      clusterings.length
        ? choice(
            'Names',
            clustering,
            [['', 'none'], ...clusterings.map(({ name, column }) => [column, name] as const)],
            (column) => explorer.state.set({ clustering: column }),
          )
        : null,
    )
  }

  private writeLegend(): void {
    const { explorer } = this
    const column = explorer.colorColumn
    this.legend.hidden = !column
    if (!column) return
    const isClustering = explorer.client.about.clusterings.some((one) => one.column === column.name)
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.code : undefined
    const scrolled = this.legend.querySelector('.list')?.scrollTop ?? 0
    fill(
      this.legend,
      element('h2', { text: column.name }),
      legend(column, {
        theme: currentTheme(),
        filters: explorer.filters,
        onSelect: (code) => void explorer.selectClass(column.name, code).catch(complain),
        onRename: isClustering && explorer.writable ? (code) => this.actions.rename(column.name, code) : undefined,
      }),
    )
    const list = this.legend.querySelector('.list')
    if (list) list.scrollTop = scrolled
    if (focused !== undefined) this.legend.querySelector<HTMLElement>(`[data-code="${focused}"]`)?.focus()
  }

  private writeFilters(): void {
    const { explorer } = this
    const { filters } = explorer
    const conditions = [...filters.all]
    fill(
      this.filters,
      element(
        'div',
        { class: 'row' },
        element('h3', { text: 'Filters' }),
        element('span', { class: 'spacer' }),
        conditions.length ? button('Clear', () => filters.clear(), { class: 'plain' }) : null,
      ),
      ...conditions.map(([name, condition]) =>
        element(
          'div',
          { class: 'condition' },
          element('span', { text: conditionText(name, condition, explorer.column(name)), title: name }),
          button(`Lift the filter on ${name}`, () => filters.set(name, undefined), { icon: 'close' }),
        ),
      ),
      conditions.length
        ? element('small', {
            class: 'soft',
            text: `${counted(explorer.visibleCount(), 'image')} ${explorer.visibleCount() === 1 ? 'passes' : 'pass'}`,
          })
        : element('small', { class: 'soft', text: 'Switch lines of the legend off, or filter by what is selected.' }),
    )
  }

  private writeTags(): void {
    const { explorer } = this
    this.tags.hidden = !explorer.client.server
    fill(
      this.tags,
      element('h3', { text: 'Tags and marks' }),
      element(
        'div',
        { class: 'tags' },
        ...explorer.tags.map(({ name, count }) =>
          element(
            'button',
            {
              class: 'tag',
              title: `Select ${counted(count, 'image')}`,
              attributes: { type: 'button', 'data-tag': name },
              on: { click: () => void explorer.selectTag(name).catch(complain) },
            },
            element('span', { text: name }),
            element('small', { class: 'soft', text: readable(count) }),
          ),
        ),
      ),
      element(
        'div',
        { class: 'row' },
        button('Kept', () => void explorer.selectMarked('keep').catch(complain)),
        button('To remove', () => void explorer.selectMarked('remove').catch(complain)),
      ),
    )
  }
}

function choice(
  label: string,
  value: string,
  options: readonly (readonly [string, string])[],
  choose: (value: string) => void,
): HTMLElement {
  const select = element('select', { attributes: { id: `choose-${label.toLowerCase()}` } })
  for (const [key, text] of options) select.append(element('option', { text, attributes: { value: key } }))
  select.value = value
  select.addEventListener('change', () => choose(select.value))
  return element('label', { class: 'choice' }, element('span', { text: label }), select)
}
