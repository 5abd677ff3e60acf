/** Many images: those that were selected, or that were found. */

import type { ExportFormat, Mark } from '../client/client'
import { button, counted, element } from '../dom'
import type { Thumbnails } from '../thumbnails'
import { menu } from './menu'
import { TileGrid } from './tile_grid'

export interface ResultsActions {
  open: (row: number) => void
  point: (row: number) => void
  export: (format: ExportFormat) => void
  exports: readonly ExportFormat[]
  showOnMap: () => void
  /** Makes what was found the selection. */
  select?: () => void
  onlyThese: () => void
  /** Undefined where nothing can be changed. */
  edit?: { tag: () => void; mark: (mark: Mark | null) => void }
}

export interface Results {
  rows: Uint32Array
  caption: (row: number, index: number) => string
  name: (row: number) => Promise<string>
  /** The picture that was looked for, and what the images are to it. */
  query?: string
  about?: string
}

const FORMATS: readonly [ExportFormat, string][] = [
  ['csv', 'Table, CSV'],
  ['parquet', 'Table, Parquet'],
  ['paths', 'List of paths'],
  ['zip', 'The images, zip'],
]

export interface ResultsPanel {
  body: HTMLElement
  foot: HTMLElement
  grid: TileGrid
}

export function resultsPanel(results: Results, thumbnails: Thumbnails, actions: ResultsActions): ResultsPanel {
  const grid = new TileGrid(thumbnails, {
    label: counted(results.rows.length, 'image'),
    caption: results.caption,
    name: results.name,
    onOpen: actions.open,
    onPoint: actions.point,
  })
  const body = element('div', { class: 'results' })
  if (results.query)
    body.append(
      element(
        'div',
        { class: 'query' },
        element('img', { attributes: { src: results.query, alt: 'The picture that was looked for' } }),
        element('span', { class: 'soft', text: results.about ?? '' }),
      ),
    )
  body.append(grid.node)
  grid.show(results.rows)
  return { body, foot: foot(actions), grid }
}

function foot(actions: ResultsActions): HTMLElement {
  return element(
    'div',
    { class: 'panel-foot' },
    button('Show them on the map', actions.showOnMap, { icon: 'pin' }),
    actions.select ? button('Select', actions.select) : null,
    button('Filter: only these', actions.onlyThese, { icon: 'filter' }),
    actions.edit ? button('Tag…', actions.edit.tag, { key: 't' }) : null,
    actions.edit
      ? menu('Mark', [
          { label: 'Keep', act: () => actions.edit?.mark('keep') },
          { label: 'Remove', act: () => actions.edit?.mark('remove') },
          { label: 'Neither', act: () => actions.edit?.mark(null) },
        ])
      : null,
    menu(
      'Export',
      FORMATS.filter(([format]) => actions.exports.includes(format)).map(([format, label]) => ({
        label,
        act: () => actions.export(format),
      })),
    ),
  )
}
