/** The points of a map that the page holds: all of them, or those that were fetched for what is in view. */

import { PointIndex } from './point_index'
import { rankOf } from './thumbnail_layout'

export class Points {
  readonly index: PointIndex
  /** x and y by turns, in the order of the index. */
  readonly places: Float32Array
  /** How many images each stands for, in the order of the index. */
  readonly weights?: Float32Array
  /** Red, green, blue, alpha of each, in the order of the index. */
  readonly colors: Uint8Array
  /** Red, green, blue, alpha of each, by place. */
  private shades: Uint8Array
  private placeOf: Map<number, number> | undefined

  /**
   * `x`, `y`: coordinates, NaN for images that are not on the map. `rows`: which row of the table each is; undefined if
   * place i is row i. `weights`: how many images each stands for; undefined if only for itself.
   */
  constructor(
    readonly x: Float32Array,
    readonly y: Float32Array,
    readonly rows?: Uint32Array,
    weights?: Float32Array,
  ) {
    this.index = new PointIndex(x, y)
    this.places = this.ordered(x, y)
    this.weights = weights && Float32Array.from(this.index.order, (place) => weights[place])
    this.colors = new Uint8Array(4 * this.index.order.length)
    this.shades = new Uint8Array(4 * x.length)
  }

  get length(): number {
    return this.x.length
  }

  row(place: number): number {
    return this.rows ? this.rows[place] : place
  }

  /** Where a row is; -1 if it is not among these. */
  place(row: number): number {
    if (!this.rows) return row >= 0 && row < this.x.length ? row : -1
    this.placeOf ??= new Map(Array.from(this.rows, (one, place) => [one, place]))
    return this.placeOf.get(row) ?? -1
  }

  /** Set the colours: four numbers a place. */
  paint(shades: Uint8Array): void {
    this.shades = shades
    const from = new Uint32Array(shades.buffer, shades.byteOffset, this.x.length)
    const to = new Uint32Array(this.colors.buffer)
    const { order } = this.index
    for (let i = 0; i < order.length; i++) to[i] = from[order[i]]
  }

  /** Of several images in one spot the one with the lowest rank is shown: any, but always the same. */
  rank(place: number): number {
    // Those that were fetched come with the widest sample first, which is there whatever part of the map is seen.
    return this.rows ? place : rankOf(place)
  }

  isVisible(place: number): boolean {
    return this.shades[4 * place + 3] > 0
  }

  /** Whether a place is in full colour: neither hidden nor dimmed. */
  isBright(place: number): boolean {
    return this.shades[4 * place + 3] > 100
  }

  cssColor(place: number): string {
    const at = 4 * place
    return `rgb(${this.shades[at]} ${this.shades[at + 1]} ${this.shades[at + 2]})`
  }

  /** Coordinates of another map, in the order of this one's index. */
  ordered(x: Float32Array, y: Float32Array): Float32Array {
    const { order } = this.index
    const places = new Float32Array(2 * order.length)
    for (let i = 0; i < order.length; i++) {
      places[2 * i] = x[order[i]]
      places[2 * i + 1] = y[order[i]]
    }
    return places
  }
}
