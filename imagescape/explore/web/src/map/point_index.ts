/** Points sorted into the cells of a grid, so that those in a box, in a polygon or under the pointer are soon found. */

import { boxAround, isInside, type Box, type Point } from './geometry'

const POINTS_A_CELL = 24
const MAX_SIDE = 512

export class PointIndex {
  /** Rows in the order of their cells, a line of cells after the other; rows without a place are left out. */
  readonly order: Uint32Array
  /** The square around all points. */
  readonly extent: Box
  private readonly starts: Uint32Array
  private readonly side: number
  private readonly cell: number

  /** `x`, `y`: coordinates by row, NaN for rows without a place. */
  constructor(
    readonly x: Float32Array,
    readonly y: Float32Array,
  ) {
    const rows = x.length
    this.extent = square(x, y)
    this.side = Math.max(1, Math.min(MAX_SIDE, Math.ceil(Math.sqrt(rows / POINTS_A_CELL))))
    this.cell = (this.extent.right - this.extent.left) / this.side
    const cells = new Int32Array(rows)
    this.starts = new Uint32Array(this.side * this.side + 1)
    let placed = 0
    for (let row = 0; row < rows; row++) {
      const here = x[row] === x[row] && y[row] === y[row] // NaN is not itself
      cells[row] = here ? this.line(y[row]) * this.side + this.column(x[row]) : -1
      if (!here) continue
      this.starts[cells[row] + 1]++
      placed++
    }
    for (let cell = 0; cell < this.side * this.side; cell++) this.starts[cell + 1] += this.starts[cell]
    this.order = new Uint32Array(placed)
    const next = this.starts.slice()
    for (let row = 0; row < rows; row++) if (cells[row] >= 0) this.order[next[cells[row]]++] = row
  }

  /** Stretches [start, end) of `order` that hold all points of a box, and some around it. */
  stretches(box: Box): [number, number][] {
    const [left, right, bottom, top] = [
      this.column(box.left),
      this.column(box.right),
      this.line(box.bottom),
      this.line(box.top),
    ]
    const found: [number, number][] = []
    for (let line = bottom; line <= top; line++) {
      const start = this.starts[line * this.side + left]
      const end = this.starts[line * this.side + right + 1]
      const last = found[found.length - 1]
      if (start === end) continue
      if (last && last[1] === start) last[1] = end
      else found.push([start, end])
    }
    return found
  }

  /** About how many points a box holds. */
  count(box: Box): number {
    return this.stretches(box).reduce((sum, [start, end]) => sum + end - start, 0)
  }

  /** Rows whose points lie in a box. */
  inBox(box: Box): Uint32Array {
    return this.collect(box, (x, y) => x >= box.left && x <= box.right && y >= box.bottom && y <= box.top)
  }

  /** Rows whose points lie in a polygon, by the even-odd rule. */
  inPolygon(polygon: readonly Point[]): Uint32Array {
    return polygon.length < 3 ? new Uint32Array(0) : this.collect(boxAround(polygon), (x, y) => isInside(x, y, polygon))
  }

  /** The row nearest to (x, y) within `radius` for which `accepts` holds; -1 if there is none. */
  nearest(x: number, y: number, radius: number, accepts: (row: number) => boolean = () => true): number {
    return this.nearestRows(x, y, 1, radius, accepts)[0] ?? -1
  }

  /** Up to `count` rows nearest to (x, y), nearest first. */
  nearestRows(
    x: number,
    y: number,
    count: number,
    radius = Infinity,
    accepts: (row: number) => boolean = () => true,
  ): number[] {
    const widest = 2 * this.side * this.cell
    let reach = Math.min(radius, 1.5 * this.cell)
    for (;;) {
      const found: { row: number; distance: number }[] = []
      for (const [start, end] of this.stretches({
        left: x - reach,
        right: x + reach,
        bottom: y - reach,
        top: y + reach,
      }))
        for (let i = start; i < end; i++) {
          const row = this.order[i]
          const distance = Math.hypot(this.x[row] - x, this.y[row] - y)
          if (distance <= reach && accepts(row)) found.push({ row, distance })
        }
      if (found.length >= count || reach >= radius || reach > widest) {
        found.sort((a, b) => a.distance - b.distance || a.row - b.row)
        return found.slice(0, count).map((one) => one.row)
      }
      reach = Math.min(radius, reach * 2)
    }
  }

  private collect(box: Box, accepts: (x: number, y: number) => boolean): Uint32Array {
    const found: number[] = []
    for (const [start, end] of this.stretches(box))
      for (let i = start; i < end; i++) {
        const row = this.order[i]
        if (accepts(this.x[row], this.y[row])) found.push(row)
      }
    return Uint32Array.from(found).sort()
  }

  private column(x: number): number {
    return this.clamped((x - this.extent.left) / this.cell)
  }

  private line(y: number): number {
    return this.clamped((y - this.extent.bottom) / this.cell)
  }

  private clamped(cell: number): number {
    return Math.max(0, Math.min(this.side - 1, Math.floor(cell)))
  }
}

function square(x: Float32Array, y: Float32Array): Box {
  const box = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity }
  for (let row = 0; row < x.length; row++) {
    if (x[row] < box.left) box.left = x[row]
    if (x[row] > box.right) box.right = x[row]
    if (y[row] < box.bottom) box.bottom = y[row]
    if (y[row] > box.top) box.top = y[row]
  }
  if (box.left > box.right || box.bottom > box.top) return { left: 0, right: 1, bottom: 0, top: 1 }
  const half = Math.max(box.right - box.left, box.top - box.bottom, 1e-6) / 2
  const [cx, cy] = [(box.left + box.right) / 2, (box.bottom + box.top) / 2]
  return { left: cx - half, right: cx + half, bottom: cy - half, top: cy + half }
}
