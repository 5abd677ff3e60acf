/** The panel at the right: an image, what was selected, or what was found. */

import type { Mark } from '../client/client'
import { button, byId, counted, element, fill, readable } from '../dom'
import type { Explorer } from '../explorer'
import { RowSet } from '../row_set'
import { ask } from './dialogs'
import { imagePanel } from './image_panel'
import { complain } from './notices'
import { resultsPanel, type ResultsPanel } from './results_panel'

export class Panel {
  private readonly node = byId('panel')
  private features: string
  private results: { key: unknown; panel: ResultsPanel; title: string } | undefined
  private turn = 0

  constructor(private readonly explorer: Explorer) {
    const { neighborFeatures } = explorer.client
    this.features = neighborFeatures[neighborFeatures.length - 1] ?? ''
    explorer.state.on(['panel', 'focus', 'selection', 'found'], () => void this.write().catch(complain))
    explorer.state.on(['map'], () => void this.refresh())
  }

  /** Write it anew: tags, marks or names changed. */
  async refresh(): Promise<void> {
    if (this.explorer.state.values.panel === 'image') await this.write().catch(complain)
    else this.results?.panel.grid.refresh()
  }

  close(): void {
    const { panel, found, selection } = this.explorer.state.values
    // From an image back to the images it was opened from.
    if (panel === 'image' && this.results?.key === found && found) this.explorer.state.set({ panel: 'found' })
    else if (panel === 'image' && this.results?.key === selection && selection)
      this.explorer.state.set({ panel: 'selection' })
    else {
      this.results = undefined
      this.explorer.state.set({ panel: 'none', found: null, focus: -1 })
    }
  }

  /** The image after or before the one that is shown, of those it was opened from. */
  step(by: number): void {
    const { focus, found, selection } = this.explorer.state.values
    const rows = this.results?.key === found && found ? found.hits.map((hit) => hit.row) : selection?.rows
    if (!rows?.length) return
    const at = rows.indexOf(focus)
    this.explorer.open(rows[(at + by + rows.length) % rows.length])
  }

  private async write(): Promise<void> {
    const { panel, selection, found } = this.explorer.state.values
    const turn = ++this.turn
    this.node.hidden = panel === 'none'
    if (panel === 'selection' && selection) this.writeResults(selection, selection.rows, selection.title)
    else if (panel === 'found' && found)
      this.writeResults(
        found,
        Uint32Array.from(found.hits, (hit) => hit.row),
        found.title,
        found.query,
        found.about,
      )
    else if (panel === 'image') await this.writeImage(turn)
  }

  private writeResults(key: unknown, rows: Uint32Array, title: string, query?: string, about?: string): void {
    const { explorer } = this
    const { found } = explorer.state.values
    const caption = (row: number, index: number) => {
      const name = explorer.names.peek(row) ?? ''
      const distance = key === found ? (found?.hits[index].distance ?? NaN) : NaN
      return distance === distance ? `${readable(Number(distance.toPrecision(3)))}  ${name}` : name
    }
    let results = this.results
    if (!results || results.key !== key) {
      const panel = resultsPanel(
        { rows, caption, name: (row) => explorer.names.of(row), query, about },
        explorer.thumbnails,
        {
          open: (row) => explorer.open(row),
          point: (row) => explorer.state.set({ hovered: row }),
          export: (format) => void explorer.export(rows, format).catch(complain),
          exports: explorer.client.exports,
          showOnMap: () => explorer.map.goToAll(Array.from(rows, (row) => explorer.map.points.place(row))),
          select: key === found ? () => explorer.select(rows.slice().sort(), title) : undefined,
          onlyThese: () =>
            explorer.filters.set(title, { kind: 'rows', rows: new RowSet(rows, explorer.client.about.rows) }),
          edit: explorer.writable
            ? {
                tag: () => void this.tag(rows).catch(complain),
                mark: (mark) => void this.mark(rows, mark).catch(complain),
              }
            : undefined,
        },
      )
      results = this.results = { key, panel, title }
    }
    const shown: ResultsPanel = results.panel
    fill(
      this.node,
      this.head(
        `${title}`,
        counted(rows.length, 'image'),
        button('Make the panel wide or narrow', () => this.widen(), { icon: 'panel', key: 'w' }),
      ),
      element('div', { class: 'panel-body' }, shown.body),
      shown.foot,
    )
    shown.grid.refresh()
  }

  private async writeImage(turn: number): Promise<void> {
    const { explorer } = this
    const row = explorer.state.values.focus
    if (this.node.querySelector('.image-panel')?.getAttribute('data-row') !== String(row)) this.writePreview(row, turn)
    const { details, hits, near } = await explorer.look(row, this.features)
    if (turn !== this.turn) return
    const { clusterings } = explorer.client.about
    const clustering = clusterings.find((one) => one.column === explorer.state.values.clustering)
    const column = clustering && explorer.column(clustering.column)
    const place = explorer.map.points.place(row)
    const code = column?.kind === 'classes' && place >= 0 ? column.codes[place] : -1
    const body = imagePanel(
      {
        row,
        details,
        url: explorer.client.imageUrl(row) ?? (await explorer.thumbnails.url(row)),
        alike: this.features ? { features: this.features, choices: explorer.client.neighborFeatures, hits } : null,
        near,
        cluster: column?.kind === 'classes' && code >= 0 ? column.names[code] : '',
      },
      explorer.thumbnails,
      {
        open: (other) => explorer.open(other),
        point: (other) => explorer.state.set({ hovered: other }),
        chooseFeatures: (features) => {
          this.features = features
          void this.write().catch(complain)
        },
        edit: explorer.writable
          ? {
              mark: (one, mark) => void this.mark([one], mark).catch(complain),
              tag: (one, tag, add) =>
                void explorer.act({ kind: add ? 'tag' : 'untag', rows: [one], tag }).catch(complain),
              note: (one, note) => void explorer.act({ kind: 'note', rows: [one], note }).catch(complain),
              knownTags: () => explorer.tags.map((tag) => tag.name),
            }
          : undefined,
      },
    )
    const back = this.results && button('Back to the images', () => this.close(), { icon: 'previous' })
    const scrolled = this.node.querySelector('.panel-body')?.scrollTop ?? 0
    const same = this.node.querySelector('.image-panel')?.getAttribute('data-row') === String(row)
    const holder = element('div', { class: 'panel-body' }, body)
    fill(
      this.node,
      this.head(
        details.name,
        '',
        button('Show on the map', () => explorer.map.goTo(explorer.map.points.place(row)), { icon: 'pin', key: 'm' }),
        back,
      ),
      holder,
    )
    if (same) holder.scrollTop = scrolled
    explorer.state.set({ neighbors: hits })
  }

  /** What is known at once: the thumbnail and perhaps the name. */
  private writePreview(row: number, turn: number): void {
    const { explorer } = this
    const image = element('img', { attributes: { alt: '' } })
    const frame = element('div', { class: 'full small' }, image)
    fill(
      this.node,
      this.head(explorer.names.peek(row) ?? '…', '', element('span')),
      element('div', { class: 'panel-body' }, element('div', { class: 'image-panel' }, frame)),
    )
    void explorer.thumbnails.url(row).then((url) => url && turn === this.turn && (image.src = url))
  }

  private head(title: string, aside: string, tool: HTMLElement, before?: HTMLElement): HTMLElement {
    return element(
      'div',
      { class: 'panel-head' },
      before,
      element('h2', { text: title, title }),
      element('span', { class: 'soft', text: aside }),
      tool,
      button('Close', () => this.close(), { icon: 'close', key: 'Escape' }),
    )
  }

  widen(): void {
    this.node.classList.toggle('wide')
  }

  /** The images that tags and marks are for now: the one that is shown, or all that are selected or found. */
  get rows(): Uint32Array | null {
    const { panel, focus, selection, found } = this.explorer.state.values
    if (panel === 'image') return Uint32Array.of(focus)
    if (panel === 'found' && found) return Uint32Array.from(found.hits, (hit) => hit.row)
    return selection?.rows ?? null
  }

  async tag(rows: ArrayLike<number>): Promise<void> {
    const tag = await ask(`Tag ${counted(rows.length, 'image')}`, {
      label: 'Tag',
      act: 'Add',
      choices: this.explorer.tags.map((one) => one.name),
    })
    if (tag?.trim()) await this.explorer.act({ kind: 'tag', rows, tag: tag.trim() })
  }

  async mark(rows: ArrayLike<number>, mark: Mark | null): Promise<void> {
    await this.explorer.act({ kind: 'mark', rows, mark })
  }
}
