/** The collection as files that somebody exported: all that can be read, nothing that can be changed. */

import type { Column } from '../columns/column'
import { Ids, numbers, readColumn, readTable, unpackThumbnails } from './arrow'
import type { About, Client, Details, ExportFormat, Label, Neighbors, Places, StaticLayout } from './client'
import { download } from './server'

const AT_ONCE = 6
const KEPT_FILES = 300

type Row = Details & { neighbors: Record<string, [number, number][]> }

export class StaticClient implements Client {
  readonly exports = ['csv', 'paths'] as const
  private readonly layout: StaticLayout
  private readonly rows = new Map<number, Promise<Row[]>>()
  private everyName: Promise<string[]> | undefined
  private readonly sheets = new Map<number, Promise<(Blob | null)[]>>()

  private constructor(
    readonly about: About,
    private readonly ids: Ids,
    private readonly sheet: Int32Array,
    private readonly place: Int32Array,
  ) {
    if (!about.static) throw new Error('data/about.json is not of a static export')
    this.layout = about.static
  }

  static async open(): Promise<StaticClient> {
    const about = (await (await get('data/about.json')).json()) as About
    const [ids, sheets] = await Promise.all([arrow('data/ids.arrow'), arrow('data/sheets.arrow')])
    return new StaticClient(about, new Ids(numbers(ids, 'id')), numbers(sheets, 'sheet'), numbers(sheets, 'place'))
  }

  get neighborFeatures(): readonly string[] {
    return this.layout.graphs
  }

  id(row: number): string {
    return this.ids.hex(row)
  }

  rowOf(id: string): number {
    return this.ids.row(id)
  }

  async places(map: string): Promise<Places> {
    const table = await arrow(`data/maps/${placeOf(this.about.maps, map)}.arrow`)
    return { x: numbers(table, 'x'), y: numbers(table, 'y') }
  }

  async column(name: string): Promise<Column> {
    return readColumn(name, await arrow(`data/columns/${placeOf(this.about.columns, name)}.arrow`))
  }

  async labels(map: string, column: string): Promise<Label[]> {
    const file = this.layout.labels.find(([ofMap, ofColumn]) => ofMap === map && ofColumn === column)
    return file ? ((await (await get(file[2])).json()) as { labels: Label[] }).labels : []
  }

  async thumbnails(rows: number[]): Promise<Map<number, Blob | null>> {
    const found = new Map<number, Blob | null>()
    await Promise.all(
      rows.map(async (row) => {
        const sheet = this.sheet[row]
        found.set(row, sheet < 0 ? null : ((await this.sheetOf(sheet))[this.place[row]] ?? null))
      }),
    )
    return found
  }

  async names(rows: number[]): Promise<Map<number, string>> {
    return new Map(await Promise.all(rows.map(async (row) => [row, (await this.details(row)).name] as const)))
  }

  imageUrl(): null {
    return null
  }

  async details(row: number): Promise<Row> {
    const each = this.layout.rows_per_file
    return (await this.rowsOf(Math.floor(row / each)))[row % each]
  }

  async neighbors(row: number, features: string, count: number): Promise<Neighbors> {
    const found = (await this.details(row)).neighbors[features] ?? []
    return { hits: found.slice(0, count).map(([other, distance]) => ({ row: other, distance })), reason: '' }
  }

  async named(text: string): Promise<Uint32Array> {
    const wanted = text.toLowerCase()
    this.everyName ??= this.readNames()
    const names = await this.everyName
    return Uint32Array.from(names.keys()).filter((row) => names[row].toLowerCase().includes(wanted))
  }

  async export(rows: Uint32Array, format: ExportFormat): Promise<void> {
    const details = await inTurns([...rows], (row) => this.details(row))
    const text = format === 'csv' ? csv(details) : details.map((one) => one.uri).join('\n') + '\n'
    const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
    download(url, `${this.about.name}-${rows.length}.${format === 'csv' ? 'csv' : 'txt'}`)
    window.setTimeout(() => URL.revokeObjectURL(url), 60_000)
  }

  /** What every image is called, from all files of rows; the rest of what they hold is not kept. */
  private async readNames(): Promise<string[]> {
    const files = [...Array(Math.ceil(this.about.rows / this.layout.rows_per_file)).keys()]
    const names = await inTurns(files, async (file) => (await readRows(file)).map((row) => row.name))
    return names.flat()
  }

  private rowsOf(file: number): Promise<Row[]> {
    return kept(this.rows, file, () => readRows(file))
  }

  private sheetOf(sheet: number): Promise<(Blob | null)[]> {
    return kept(this.sheets, sheet, async () =>
      unpackThumbnails(await (await get(`data/sheets/${sheet}.bin`)).arrayBuffer()),
    )
  }
}

/** A table of what is known of images; a field with a comma, a quote or a line break stands in quotes. */
export function csv(details: readonly Details[]): string {
  const names = [...new Set(details.flatMap((one) => one.values.map(([name]) => name)))]
  const line = (fields: unknown[]) => fields.map(field).join(',')
  const lines = details.map((one) => {
    const values = new Map(one.values)
    return line([one.id, ...names.map((name) => values.get(name))])
  })
  return `${[line(['image_id', ...names]), ...lines].join('\r\n')}\r\n`
}

function field(value: unknown): string {
  if (value === null || value === undefined) return ''
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** Do this for all, a few at a time; results in their order. */
async function inTurns<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async () => {
    while (next < all.length) {
      const at = next++
      results[at] = await work(all[at])
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return results
}

async function readRows(file: number): Promise<Row[]> {
  return (await (await get(`data/rows/${file}.json`)).json()) as Row[]
}

/** What is in `store` under a key, or comes there; the ones not used for longest go when there are too many. */
function kept<T>(store: Map<number, Promise<T>>, key: number, load: () => Promise<T>): Promise<T> {
  const found = store.get(key) ?? load()
  found.catch(() => store.delete(key)) // asked for again next time
  store.delete(key)
  store.set(key, found)
  if (store.size > KEPT_FILES) store.delete(store.keys().next().value as number)
  return found
}

function placeOf(list: readonly { name: string }[], name: string): number {
  return list.findIndex((one) => one.name === name)
}

async function arrow(address: string) {
  return readTable(await get(address))
}

async function get(address: string): Promise<Response> {
  const response = await fetch(address).catch(() => null)
  if (!response?.ok)
    throw new Error(
      `${address} cannot be read. Pages that are opened as files may not read others: put them on a web server.`,
    )
  return response
}
