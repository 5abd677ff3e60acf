/** The collection as a server answers for it. */

import { columnOf, type Column, type Summary } from '../columns/column'
import { hexOf, Ids, numbers, readColumn, readTable, unpackThumbnails } from './arrow'
import type {
  About,
  Acted,
  Act,
  Client,
  ColumnInfo,
  Decision,
  Details,
  ExportFormat,
  Hit,
  Item,
  Label,
  Neighbors,
  NewPlace,
  Places,
  Quadtree,
  QueueInfo,
  ServerActions,
  TagCount,
  Tile,
} from './client'

const KNOWN_IDS = 1_200_000 // of a tiled page: more than can be selected

/** What the server said that went wrong. `code` is for programs, the message for people. */
export class ServerError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

interface HitJson {
  row: number | null
  id: string
  distance: number
  name: string
}

interface NeighborsJson {
  hits: HitJson[]
  reason?: string
}

export class ServerClient implements Client, ServerActions {
  readonly server = this
  readonly exports = ['csv', 'parquet', 'paths', 'zip'] as const

  private constructor(
    readonly about: About,
    private readonly ids: Ids | null,
    private readonly known: Map<number, bigint>,
  ) {}

  static async open(): Promise<ServerClient> {
    const about = (await (await get('api/about')).json()) as About
    // The ids of very many images come with the tiles that they are in.
    const ids = about.tiled ? null : new Ids(numbers(await readTable(await get(`api/ids?order=${about.order}`)), 'id'))
    return new ServerClient(about, ids, new Map())
  }

  get neighborFeatures(): readonly string[] {
    return this.about.features.map((one) => one.name)
  }

  id(row: number): string {
    if (this.ids) return this.ids.hex(row)
    const id = this.known.get(row)
    if (id === undefined) throw new Error(`the page holds no image of row ${row}`)
    return hexOf(id)
  }

  rowOf(id: string): number {
    if (this.ids) return this.ids.row(id)
    const number = BigInt(`0x${id}`)
    for (const [row, known] of this.known) if (known === number) return row
    return -1
  }

  async places(map: string): Promise<Places> {
    const table = await readTable(await this.get(`api/map/${encodeURIComponent(map)}`))
    return { x: numbers(table, 'x'), y: numbers(table, 'y') }
  }

  async column(name: string): Promise<Column> {
    return readColumn(name, await readTable(await this.get(`api/column/${encodeURIComponent(name)}`)))
  }

  async summary(name: string): Promise<Column> {
    const response = await this.get(`api/summary/${encodeURIComponent(name)}`)
    const summary = (await response.json()) as Summary
    return columnOf(name, summary, summary.kind === 'amounts' ? new Float64Array(0) : new Int32Array(0))
  }

  async labels(map: string, column: string): Promise<Label[]> {
    const response = await this.get(`api/labels/${encodeURIComponent(map)}/${encodeURIComponent(column)}`)
    return ((await response.json()) as { labels: Label[] }).labels
  }

  async thumbnails(rows: number[]): Promise<Map<number, Blob | null>> {
    const response = await post('api/thumbnails', { ids: rows.map((row) => this.id(row)) })
    const pictures = unpackThumbnails(await response.arrayBuffer())
    return new Map(rows.map((row, i) => [row, pictures[i]]))
  }

  async names(rows: number[]): Promise<Map<number, string>> {
    const response = await post('api/names', { ids: rows.map((row) => this.id(row)) })
    const { names } = (await response.json()) as { names: (string | null)[] }
    return new Map(rows.map((row, i) => [row, names[i] ?? this.id(row)]))
  }

  imageUrl(row: number): string {
    return `api/image/${this.id(row)}`
  }

  async details(row: number): Promise<Details> {
    return (await (await this.get(`api/row/${this.id(row)}`)).json()) as Details
  }

  async neighbors(row: number, features: string, count: number): Promise<Neighbors> {
    const query = new URLSearchParams({ k: String(count), features })
    const answer = (await (await this.get(`api/neighbors/${this.id(row)}?${query}`)).json()) as {
      features: NeighborsJson
    }
    return this.asNeighbors(answer.features)
  }

  async mapNeighbors(row: number, map: string, count: number): Promise<Neighbors> {
    const query = new URLSearchParams({ k: String(count), map })
    const answer = (await (await this.get(`api/neighbors/${this.id(row)}?${query}`)).json()) as { map: NeighborsJson }
    return this.asNeighbors(answer.map)
  }

  named(text: string): Promise<Uint32Array> {
    return this.rows(`api/find/name?${new URLSearchParams({ q: text })}`)
  }

  where(condition: string): Promise<Uint32Array> {
    return this.rows(`api/find/where?${new URLSearchParams({ q: condition })}`)
  }

  async byText(features: string, text: string, count: number): Promise<Hit[]> {
    const query = new URLSearchParams({ q: text, features, k: String(count) })
    return this.asNeighbors((await (await this.get(`api/find/text?${query}`)).json()) as NeighborsJson).hits
  }

  async byImage(features: string, image: Blob, count: number): Promise<Hit[]> {
    const query = new URLSearchParams({ features, k: String(count), order: this.about.order })
    return this.asNeighbors((await (await upload(`api/find/image?${query}`, image)).json()) as NeighborsJson).hits
  }

  async place(map: string, image: Blob): Promise<NewPlace> {
    const address = `api/place/${encodeURIComponent(map)}?${new URLSearchParams({ order: this.about.order })}`
    const answer = (await (await upload(address, image)).json()) as NeighborsJson & { x: number; y: number }
    return { x: answer.x, y: answer.y, ...this.asNeighbors(answer) }
  }

  async tags(): Promise<TagCount[]> {
    return ((await (await get('api/tags')).json()) as { tags: TagCount[] }).tags
  }

  async columns(): Promise<ColumnInfo[]> {
    return ((await (await get('api/about')).json()) as About).columns
  }

  async act(decision: Decision): Promise<Acted> {
    if (decision.kind === 'rename') return (await (await post('api/acts', decision)).json()) as Acted
    const { rows, ...rest } = decision
    return (await (await post('api/acts', { ...rest, ids: this.hexes(rows) })).json()) as Acted
  }

  async undo(): Promise<Acted> {
    return (await (await post('api/undo', {})).json()) as Acted
  }

  async redo(): Promise<Acted> {
    return (await (await post('api/redo', {})).json()) as Acted
  }

  async queues(): Promise<QueueInfo[]> {
    return ((await (await get('api/queues')).json()) as { queues: QueueInfo[] }).queues
  }

  async queue(name: string, count: number): Promise<{ count: number; items: Item[] }> {
    const query = new URLSearchParams({ start: '0', count: String(count), open: '1' })
    return (await (await this.get(`api/queues/${encodeURIComponent(name)}?${query}`)).json()) as {
      count: number
      items: Item[]
    }
  }

  async select(rows: ArrayLike<number>): Promise<void> {
    await send('PUT', 'api/selection', { ids: this.hexes(rows) })
  }

  async export(rows: Uint32Array, format: ExportFormat): Promise<void> {
    const response = await post('api/export', { ids: this.hexes(rows), format, columns: null })
    const { url, filename } = (await response.json()) as { url: string; filename: string }
    download(url, filename)
  }

  async state(): Promise<{ version: number; order: string; undo: Act | null; redo: Act | null }> {
    return (await (await get('api/state')).json()) as {
      version: number
      order: string
      undo: Act | null
      redo: Act | null
    }
  }

  async tree(map: string): Promise<Quadtree> {
    return (await (await this.get(`api/tiles/${encodeURIComponent(map)}`)).json()) as Quadtree
  }

  async tile(map: string, z: number, x: number, y: number, columns: readonly string[]): Promise<Tile> {
    const query = columns.length ? `?${new URLSearchParams({ columns: columns.join(',') })}` : ''
    const table = await readTable(await this.get(`api/tiles/${encodeURIComponent(map)}/${z}/${x}/${y}${query}`))
    const tile: Tile = {
      rows: numbers(table, 'row'),
      ids: numbers(table, 'id'),
      x: numbers(table, 'x'),
      y: numbers(table, 'y'),
      columns: new Map(columns.map((name) => [name, numbers<Int32Array | Float64Array>(table, name)])),
    }
    if (!this.ids) tile.rows.forEach((row, i) => this.remember(row, tile.ids[i]))
    return tile
  }

  private async rows(address: string): Promise<Uint32Array> {
    return numbers(await readTable(await this.get(address)), 'row')
  }

  private remember(row: number, id: bigint): void {
    this.known.delete(row)
    this.known.set(row, id)
    if (this.known.size > KNOWN_IDS) this.known.delete(this.known.keys().next().value as number)
  }

  private asNeighbors({ hits, reason = '' }: NeighborsJson): Neighbors {
    const here = hits.filter((hit): hit is HitJson & { row: number } => hit.row !== null)
    if (!this.ids) for (const { row, id } of here) this.remember(row, BigInt(`0x${id}`))
    return { hits: here.map(({ row, distance }) => ({ row, distance })), reason }
  }

  private hexes(rows: ArrayLike<number>): string[] {
    return Array.from(rows, (row) => this.id(row))
  }

  private get(address: string): Promise<Response> {
    return get(`${address}${address.includes('?') ? '&' : '?'}order=${this.about.order}`)
  }
}

/** Let the browser fetch a file. */
export function download(url: string, filename: string): void {
  const link = document.createElement('a')
  link.href = url
  link.download = filename
  document.body.append(link)
  link.click()
  link.remove()
}

function get(address: string): Promise<Response> {
  // A browser whose cache has no room for an answer of megabytes may fail to read it at all.
  return checked(fetch(address).catch(() => fetch(address, { cache: 'no-store' })))
}

function post(address: string, body: unknown): Promise<Response> {
  return send('POST', address, body)
}

function send(method: string, address: string, body: unknown): Promise<Response> {
  return checked(
    fetch(address, { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
  )
}

function upload(address: string, body: Blob): Promise<Response> {
  return checked(fetch(address, { method: 'POST', headers: { 'Content-Type': 'application/octet-stream' }, body }))
}

async function checked(underway: Promise<Response>): Promise<Response> {
  let response: Response
  try {
    response = await underway
  } catch {
    throw new ServerError('away', 'The server does not answer. Is `imagescape explore` still running?')
  }
  if (response.ok) return response
  const said = (await response.json().catch(() => null)) as { error?: { code: string; message: string } } | null
  throw new ServerError(
    said?.error?.code ?? 'internal',
    said?.error?.message ?? `The server answered ${response.status}.`,
  )
}
