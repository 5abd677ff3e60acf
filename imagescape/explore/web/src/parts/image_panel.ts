/** One image: whole, with all that the table says of it, and what lies near it by its features and on the map. */

import type { Details, Hit, Mark } from '../client/client'
import { button, element, fill, readable } from '../dom'
import type { Thumbnails } from '../thumbnails'
import { showLarge } from './dialogs'

const SHOWN_NEIGHBORS = 10

export interface ImageActions {
  open: (row: number) => void
  point: (row: number) => void
  chooseFeatures: (features: string) => void
  /** Undefined where nothing can be changed. */
  edit?: {
    mark: (row: number, mark: Mark | null) => void
    tag: (row: number, tag: string, add: boolean) => void
    note: (row: number, text: string) => void
    knownTags: () => readonly string[]
  }
}

export interface ImageView {
  row: number
  details: Details
  url: string | null
  alike: { features: string; choices: readonly string[]; hits: readonly Hit[] } | null
  near: readonly number[]
  cluster: string
}

/** The panel's body. */
export function imagePanel(view: ImageView, thumbnails: Thumbnails, actions: ImageActions): HTMLElement {
  const near = new Set(view.near)
  const alike = view.alike?.hits ?? []
  const both = new Set(alike.map((hit) => hit.row).filter((row) => near.has(row)))
  return element(
    'div',
    { class: 'image-panel', attributes: { 'data-row': view.row, 'data-id': view.details.id } },
    picture(view),
    actions.edit ? editing(view, actions.edit) : null,
    view.alike
      ? element(
          'section',
          {},
          alikeHead(view.alike, actions),
          strip(alike, (hit) => readable(Number(hit.distance.toPrecision(3))), 'Alike', both, thumbnails, actions),
        )
      : null,
    view.near.length
      ? element(
          'section',
          {},
          element(
            'div',
            { class: 'row' },
            element('h3', { text: 'Near on the map' }),
            element('span', { class: 'spacer' }),
            view.alike
              ? element('small', {
                  class: 'soft',
                  text: `${both.size} of ${Math.min(SHOWN_NEIGHBORS, near.size)} also alike`,
                })
              : null,
          ),
          strip(
            view.near.map((row) => ({ row, distance: 0 })),
            () => '',
            'Near on the map',
            both,
            thumbnails,
            actions,
          ),
        )
      : null,
    element('section', {}, element('h3', { text: 'Columns' }), facts(view)),
  )
}

function picture({ url, details, row }: ImageView): HTMLElement {
  const frame = element('button', {
    class: 'full',
    attributes: { type: 'button', 'aria-label': `Show ${details.name} larger` },
    on: { click: () => url && showLarge(url, details.name) },
  })
  if (!url) fill(frame, element('span', { class: 'soft', text: 'The picture is not here.' }))
  else {
    const image = element('img', {
      attributes: { src: url, alt: details.name, 'data-row': row },
      on: {
        load: () => frame.classList.toggle('small', image.naturalWidth < 300),
        error: () => fill(frame, element('span', { class: 'soft', text: 'The original cannot be read any more.' })),
      },
    })
    fill(frame, image)
  }
  return frame
}

function editing({ row, details }: ImageView, edit: NonNullable<ImageActions['edit']>): HTMLElement {
  const toggle = (label: string, mark: Mark, key: string) => {
    const made = button(label, () => edit.mark(row, details.mark === mark ? null : mark), { class: mark, key })
    made.setAttribute('aria-pressed', String(details.mark === mark))
    return made
  }
  const note = element('textarea', {
    text: details.note,
    attributes: { placeholder: 'Note', 'aria-label': 'Note', rows: 2 },
    on: { change: () => edit.note(row, note.value) },
  })
  return element(
    'section',
    {},
    element('div', { class: 'row' }, toggle('Keep', 'keep', 'k'), toggle('Remove', 'remove', 'x')),
    tagEditor(row, details.tags, edit),
    note,
  )
}

function tagEditor(row: number, tags: readonly string[], edit: NonNullable<ImageActions['edit']>): HTMLElement {
  const input = element('input', {
    attributes: {
      type: 'text',
      placeholder: 'Add a tag',
      'aria-label': 'Add a tag',
      list: 'known-tags',
      autocomplete: 'off',
    },
    on: {
      keydown: (event) => {
        if (event.key === 'Enter' && input.value.trim()) edit.tag(row, input.value.trim(), true)
      },
    },
  })
  return element(
    'div',
    { class: 'tags' },
    ...tags.map((tag) =>
      element(
        'span',
        { class: 'tag' },
        element('span', { text: tag }),
        button(`Remove the tag ${tag}`, () => edit.tag(row, tag, false), { icon: 'close' }),
      ),
    ),
    input,
    element(
      'datalist',
      { attributes: { id: 'known-tags' } },
      ...edit.knownTags().map((tag) => element('option', { attributes: { value: tag } })),
    ),
  )
}

function alikeHead(alike: NonNullable<ImageView['alike']>, actions: ImageActions): HTMLElement {
  const choice = element('select', { attributes: { 'aria-label': 'Alike by which features' } })
  for (const name of alike.choices)
    choice.append(element('option', { text: name, attributes: { value: name, selected: name === alike.features } }))
  choice.addEventListener('change', () => actions.chooseFeatures(choice.value))
  return element(
    'div',
    { class: 'row' },
    element('h3', { text: 'Alike' }),
    element('span', { class: 'spacer' }),
    alike.choices.length > 1 ? choice : element('small', { class: 'soft', text: alike.features }),
  )
}

function strip(
  hits: readonly Hit[],
  caption: (hit: Hit) => string,
  label: string,
  both: ReadonlySet<number>,
  thumbnails: Thumbnails,
  actions: ImageActions,
): HTMLElement {
  const node = element('div', { class: 'strip', attributes: { role: 'group', 'aria-label': label } })
  hits.slice(0, SHOWN_NEIGHBORS).forEach((hit, index) => {
    const image = element('img', { attributes: { alt: '' } })
    const text = caption(hit)
    node.append(
      element(
        'button',
        {
          class: both.has(hit.row) ? 'both' : '',
          attributes: {
            type: 'button',
            'data-row': hit.row,
            'aria-label': `${label} ${index + 1}${text ? `, distance ${text}` : ''}`,
          },
          on: {
            click: () => actions.open(hit.row),
            pointerenter: () => actions.point(hit.row),
            pointerleave: () => actions.point(-1),
            focus: () => actions.point(hit.row),
          },
        },
        image,
        text ? element('small', { text }) : null,
      ),
    )
    void thumbnails.url(hit.row).then((url) => url && (image.src = url))
  })
  if (!hits.length) node.replaceWith(element('p', { class: 'soft', text: 'none' }))
  return node
}

function facts({ details, cluster }: ImageView): HTMLElement {
  const list = element('dl', { class: 'facts' })
  const line = (name: string, value: string) =>
    list.append(element('dt', { text: name }), element('dd', { text: value }))
  if (cluster) line('cluster', cluster)
  line('image_id', details.id)
  for (const [name, value] of details.values) if (value !== null && value !== '') line(name, written(value))
  return list
}

/** A value of the table, as text. */
export function written(value: unknown): string {
  if (value === null || value === undefined) return '–'
  if (typeof value === 'number') return readable(value)
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (Array.isArray(value)) return value.map(written).join(', ')
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
