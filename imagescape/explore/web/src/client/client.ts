/** What the page asks of a collection, whoever answers: a server that writes to the table, or files that do not change. */

import type { Column, ColumnKind } from '../columns/column'
import type { Box } from '../map/geometry'

export interface MapInfo {
  name: string
  /** Images that are on it. */
  count: number
  /** The features it was made from, where they are in the table. */
  features: string | null
  /** Whether new images can be put on it, and if not, why. */
  places: boolean
  places_not: string
  bounds: [number, number, number, number] | null
}

export interface ColumnInfo {
  name: string
  kind: ColumnKind
  type: string
  /** "cluster", "cluster_name", "probability", "tags", "mark", "note", "audit", "source" or "". */
  role: string
}

export interface Clustering {
  name: string
  column: string
  named: boolean
}

export interface FeatureInfo {
  name: string
  encoder: string
  dimensions: number
  count: number
  by_image: boolean
  by_image_not: string
  by_text: boolean
  by_text_not: string
}

export interface TagCount {
  name: string
  count: number
}

export interface Act {
  number: number
  text: string
}

export interface StaticLayout {
  sheet_thumbnails: number
  rows_per_file: number
  sheets: number
  labels: [string, string, string][]
  graphs: string[]
}

export interface About {
  imagescape: string
  name: string
  order: string
  rows: number
  usable: number
  version: number
  read_only: boolean
  tiled: boolean
  maps: MapInfo[]
  columns: ColumnInfo[]
  clusterings: Clustering[]
  features: FeatureInfo[]
  tags: TagCount[]
  undo: Act | null
  redo: Act | null
  limits: { upload_bytes: number; ids: number; thumbnails: number; neighbors: number; text: number }
  static?: StaticLayout
}

export interface Hit {
  row: number
  distance: number
}

export interface Label {
  code: number
  value: unknown
  name: string
  named: boolean
  x: number
  y: number
  count: number
  /** It is shown when the map is enlarged 2^level times or more; at 1 all of it fits. */
  level: number
}

export type Mark = 'keep' | 'remove'

export interface Details {
  id: string
  row: number
  name: string
  uri: string
  width: number
  height: number
  format: string
  status: string
  tags: string[]
  mark: Mark | null
  note: string
  /** Columns and values, in the order of the table. */
  values: [string, unknown][]
}

/** What lies near an image; `reason` says why nothing does. */
export interface Neighbors {
  hits: Hit[]
  reason: string
}

export interface Places {
  x: Float32Array
  y: Float32Array
}

export interface Quadtree {
  x0: number
  y0: number
  size: number
  depth: number
  capacity: number
  /** Level, column, line and number of points of each tile that holds any. */
  tiles: [number, number, number, number][]
}

export interface Tile extends Places {
  rows: Uint32Array
  ids: BigUint64Array
  /** Codes of classes or amounts, by name of the column. */
  columns: Map<string, Int32Array | Float64Array>
}

export type ExportFormat = 'csv' | 'parquet' | 'paths' | 'zip'

/** What can be read. */
export interface Client {
  readonly about: About
  places(map: string): Promise<Places>
  column(name: string): Promise<Column>
  labels(map: string, column: string): Promise<Label[]>
  /** The small pictures, encoded; null for images that have none. */
  thumbnails(rows: number[]): Promise<Map<number, Blob | null>>
  names(rows: number[]): Promise<Map<number, string>>
  id(row: number): string
  /** The row of an id; -1 if the page does not know it. */
  rowOf(id: string): number
  /** Where the whole image is; null where it is not to be had. */
  imageUrl(row: number): string | null
  details(row: number): Promise<Details>
  neighbors(row: number, features: string, count: number): Promise<Neighbors>
  /** Features by whose neighbours images can be told. */
  readonly neighborFeatures: readonly string[]
  /** Rows whose names hold a text. */
  named(text: string): Promise<Uint32Array>
  readonly exports: readonly ExportFormat[]
  export(rows: Uint32Array, format: ExportFormat): Promise<void>
  /** Undefined where the page is of files. */
  readonly server?: ServerActions
}

export type Decision =
  | { kind: 'tag' | 'untag'; rows: ArrayLike<number>; tag: string }
  | { kind: 'mark'; rows: ArrayLike<number>; mark: Mark | null }
  | { kind: 'note'; rows: ArrayLike<number>; note: string }
  | { kind: 'set'; rows: ArrayLike<number>; column: string; value: unknown }
  | { kind: 'rename'; clustering: string; cluster: number; name: string | null }

export interface Acted {
  act: (Act & { changed: number }) | null
  version: number
  undo: Act | null
  redo: Act | null
}

export interface NewPlace extends Neighbors {
  x: number
  y: number
}

export interface QueueInfo {
  name: string
  title: string
  /** What is asked: which of a group to keep, whether to keep an image, or what its label is. */
  kind: 'groups' | 'images' | 'labels'
  count: number
  open: number
  column: string
  text: string
}

export interface Candidate {
  row: number
  id: string
  name: string
  width: number
  height: number
  bytes: number
  score: number | null
  mark: Mark | null
  reason: string
  suggested: Mark | null
  label?: unknown
  suggested_label?: unknown
}

export interface Item {
  group: number | null
  images: Candidate[]
  label_column?: string | null
}

/** What only a server can do: look for what is new, hold very many points, and change the table. */
export interface ServerActions {
  where(condition: string): Promise<Uint32Array>
  byText(features: string, text: string, count: number): Promise<Hit[]>
  byImage(features: string, image: Blob, count: number): Promise<Hit[]>
  place(map: string, image: Blob): Promise<NewPlace>
  tags(): Promise<TagCount[]>
  /** The columns of now. */
  columns(): Promise<ColumnInfo[]>
  act(decision: Decision): Promise<Acted>
  undo(): Promise<Acted>
  redo(): Promise<Acted>
  queues(): Promise<QueueInfo[]>
  /** The worst items of a queue that are still to be decided, and how many of those there are. */
  queue(name: string, count: number): Promise<{ count: number; items: Item[] }>
  select(rows: ArrayLike<number>): Promise<void>
  /** The state of the table: whether others wrote to it. */
  state(): Promise<{ version: number; order: string }>
  tree(map: string): Promise<Quadtree>
  tile(map: string, z: number, x: number, y: number, columns: readonly string[]): Promise<Tile>
  /** A column without its values. */
  summary(name: string): Promise<Column>
  mapNeighbors(row: number, map: string, count: number): Promise<Neighbors>
}

/** Boxes of tiles. */
export function tileBox(tree: Quadtree, z: number, x: number, y: number): Box {
  const side = tree.size / 2 ** z
  const [left, bottom] = [tree.x0 + x * side, tree.y0 + y * side]
  return { left, bottom, right: left + side, top: bottom + side }
}
