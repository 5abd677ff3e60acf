/** Where points and their columns come from: all at once, or tile by tile for what is in view. */

import { tileBox, type Client, type Quadtree, type ServerActions, type Tile } from '../client/client'
import { withValues, type Column } from '../columns/column'
import type { Filters } from '../columns/filters'
import { boxAround, isInside, overlap, widened, type Box, type Point } from './geometry'
import { Points } from './points'

const KEPT_MAPS = 3
const DRAWN = 80_000
const KEPT_TILES = 500
const AT_ONCE = 6
const MOST_SELECTED = 1_000_000

export interface PointSource {
  /** The points of a map, or of the part of it in `box`, with the values of `columns`. */
  points(map: string, columns: readonly string[], box?: Box): Promise<Points>
  /** A column, by place in the points that came last; undefined if it was not among those asked for. */
  column(name: string): Column | undefined
  /** Forget the values of a column, which have changed. */
  forget(name: string): void
  /** Rows within a polygon that pass the filters. */
  inside(points: Points, map: string, polygon: readonly Point[], filters: Filters): Promise<Uint32Array>
}

/** All points of a map, all values of a column. */
export class WholeSource implements PointSource {
  private readonly maps = new Map<string, Points>()
  private readonly columns = new Map<string, Column>()
  private readonly underway = new Map<string, Promise<Column>>()

  constructor(private readonly client: Client) {}

  async points(map: string, columns: readonly string[]): Promise<Points> {
    const missing = columns.filter((name) => !this.columns.has(name))
    const known = this.maps.get(map)
    const [points] = await Promise.all([
      known ?? this.client.places(map).then(({ x, y }) => new Points(x, y)),
      ...missing.map((name) => this.load(name)),
    ])
    this.maps.delete(map)
    this.maps.set(map, points)
    if (this.maps.size > KEPT_MAPS) this.maps.delete(this.maps.keys().next().value as string)
    return points
  }

  column(name: string): Column | undefined {
    return this.columns.get(name)
  }

  forget(name: string): void {
    this.columns.delete(name)
    this.underway.delete(name)
  }

  /** Fetch a column, once however often it is asked for meanwhile. */
  private load(name: string): Promise<Column> {
    const underway = this.underway.get(name)
    if (underway) return underway
    const loading = this.client.column(name).then((column) => {
      // Unless it was forgotten meanwhile, and what came is what it was.
      if (this.underway.get(name) === loading) this.columns.set(name, column)
      return column
    })
    this.underway.set(name, loading)
    return loading.finally(() => this.underway.get(name) === loading && this.underway.delete(name))
  }

  async inside(points: Points, _map: string, polygon: readonly Point[]): Promise<Uint32Array> {
    return points.index.inPolygon(polygon).filter((place) => points.isVisible(place))
  }
}

/** A sample of the points in view, and all of them when they are few enough. */
export class TiledSource implements PointSource {
  private readonly trees = new Map<string, Quadtree>()
  private readonly tiles = new Map<string, Promise<Tile>>()
  private readonly summaries = new Map<string, Column>()
  private here = new Map<string, Column>()
  /** About how many points are drawn at once. */
  drawn = DRAWN

  constructor(private readonly server: ServerActions) {}

  async points(map: string, columns: readonly string[], box?: Box): Promise<Points> {
    const [tree] = await Promise.all([
      this.tree(map),
      ...columns
        .filter((name) => !this.summaries.has(name))
        .map(async (name) => this.summaries.set(name, await this.server.summary(name))),
    ])
    const wide = widened(box ?? tileBox(tree, 0, 0, 0), 0.25)
    const usable = columns.filter((name) => ['classes', 'amounts'].includes(this.summaries.get(name)?.kind ?? ''))
    const chosen = tilesFor(tree, wide, this.drawn)
    return this.joined(await this.load(map, chosen, usable), usable, tree, chosen)
  }

  column(name: string): Column | undefined {
    return this.here.get(name) ?? this.summaries.get(name)
  }

  forget(name: string): void {
    this.summaries.delete(name)
    this.tiles.clear()
  }

  async inside(_points: Points, map: string, polygon: readonly Point[], filters: Filters): Promise<Uint32Array> {
    const tree = await this.tree(map)
    const box = boxAround(polygon)
    const touching = tree.tiles.filter(([z, x, y]) => overlap(box, tileBox(tree, z, x, y)))
    const count = touching.reduce((sum, [, , , here]) => sum + here, 0)
    if (count > MOST_SELECTED)
      throw new Error(
        `There are up to ${count.toLocaleString('en')} images in there; at most a million can be selected. Draw around fewer.`,
      )
    const rows: number[] = []
    const columns = filters.columns
    for (const tile of await this.load(map, touching, columns)) {
      const column = (name: string) =>
        withValues(this.summaries.get(name) as Column, tile.columns.get(name) as Int32Array | Float64Array)
      const passing = filters.mask(tile.rows.length, column, tile.rows)
      tile.rows.forEach((row, i) => {
        if (passing?.[i] !== 0 && isInside(tile.x[i], tile.y[i], polygon)) rows.push(row)
      })
    }
    return Uint32Array.from(rows).sort()
  }

  private async tree(map: string): Promise<Quadtree> {
    const known = this.trees.get(map) ?? (await this.server.tree(map))
    this.trees.set(map, known)
    return known
  }

  private async load(map: string, wanted: readonly TileAddress[], columns: readonly string[]): Promise<Tile[]> {
    const loaded: Tile[] = []
    for (let start = 0; start < wanted.length; start += AT_ONCE)
      loaded.push(
        ...(await Promise.all(
          wanted.slice(start, start + AT_ONCE).map(([z, x, y]) => this.tile(map, z, x, y, columns)),
        )),
      )
    return loaded
  }

  private tile(map: string, z: number, x: number, y: number, columns: readonly string[]): Promise<Tile> {
    const key = [map, z, x, y, ...columns].join('/')
    const found = this.tiles.get(key) ?? this.server.tile(map, z, x, y, columns)
    found.catch(() => this.tiles.delete(key))
    this.tiles.delete(key)
    this.tiles.set(key, found)
    if (this.tiles.size > KEPT_TILES) this.tiles.delete(this.tiles.keys().next().value as string)
    return found
  }

  private joined(
    tiles: readonly Tile[],
    columns: readonly string[],
    tree: Quadtree,
    chosen: readonly TileAddress[],
  ): Points {
    const count = tiles.reduce((sum, tile) => sum + tile.rows.length, 0)
    const [rows, x, y] = [new Uint32Array(count), new Float32Array(count), new Float32Array(count)]
    const values = new Map(columns.map((name) => [name, this.valuesFor(name, count)]))
    let start = 0
    for (const tile of tiles) {
      rows.set(tile.rows, start)
      x.set(tile.x, start)
      y.set(tile.y, start)
      for (const [name, all] of values) all.set(tile.columns.get(name) ?? [], start)
      start += tile.rows.length
    }
    this.here = new Map([...values].map(([name, all]) => [name, withValues(this.summaries.get(name) as Column, all)]))
    return new Points(x, y, rows, sampleWeights(tree, chosen, x, y))
  }

  private valuesFor(name: string, count: number): Int32Array | Float64Array {
    return this.summaries.get(name)?.kind === 'classes' ? new Int32Array(count) : new Float64Array(count)
  }
}

type TileAddress = readonly [number, number, number, number]

/** Tiles that touch a box, down to the deepest level at which they hold no more than about `most` points in it. */
export function tilesFor(tree: Quadtree, box: Box, most: number): TileAddress[] {
  const chosen: TileAddress[] = []
  let points = 0
  for (let level = 0; level <= tree.depth; level++) {
    const touching = tree.tiles.filter(([z, x, y]) => z === level && overlap(box, tileBox(tree, z, x, y)))
    const more = touching.reduce((sum, [z, x, y, count]) => sum + count * shareIn(box, tileBox(tree, z, x, y)), 0)
    if (level > 0 && points + more > most) break
    points += more
    chosen.push(...touching)
  }
  return chosen
}

/**
 * How many images each loaded point stands for: in each square of the deepest level that is loaded, those that are
 * deeper are shared out among those that are here. A tile holds as many points of a dense part as of a thin one, so
 * without this their edges would be seen.
 */
export function sampleWeights(
  tree: Quadtree,
  chosen: readonly TileAddress[],
  x: Float32Array,
  y: Float32Array,
): Float32Array {
  const level = Math.max(0, ...chosen.map(([z]) => z))
  const side = 2 ** level
  const square = (value: number, start: number) =>
    Math.max(0, Math.min(side - 1, Math.floor(((value - start) / tree.size) * side)))
  const squares = Float64Array.from(x, (_, i) => square(y[i], tree.y0) * side + square(x[i], tree.x0))
  const here = new Map<number, number>()
  for (const one of squares) here.set(one, (here.get(one) ?? 0) + 1)
  const deeper = new Map<number, number>()
  for (const [z, column, line, count] of tree.tiles) {
    if (z <= level) continue
    const one = Math.floor(line / 2 ** (z - level)) * side + Math.floor(column / 2 ** (z - level))
    deeper.set(one, (deeper.get(one) ?? 0) + count)
  }
  return Float32Array.from(squares, (one) => 1 + (deeper.get(one) ?? 0) / (here.get(one) as number))
}

/** The share of `tile` that lies in `box`. */
function shareIn(box: Box, tile: Box): number {
  const width = Math.min(box.right, tile.right) - Math.max(box.left, tile.left)
  const height = Math.min(box.top, tile.top) - Math.max(box.bottom, tile.bottom)
  return Math.max(0, (width * height) / ((tile.right - tile.left) * (tile.top - tile.bottom)))
}
