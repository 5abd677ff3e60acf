/**
 * Which images are shown on the map, and where: none covers another, and none jumps while the map is moved.
 *
 * The map is divided into square cells of 2^-level of its width. Each cell shows one image, that of its point with the
 * lowest rank, wholly within the cell and as near to its point as that allows. Cells lie on the map and not on the
 * page, so moving the page changes nothing; at the next level each cell becomes four, and what was shown stays, as the
 * point of lowest rank in a cell has the lowest rank in its quarter too. Where images are few enough, those that found
 * their cell taken go into a free one beside it, so that every image is seen.
 */

import type { Box } from './geometry'

export interface Placed {
  row: number
  /** The cell, counted from the map's lower left corner. */
  column: number
  line: number
}

export interface Frame {
  extent: Box
  level: number
}

const SMALLEST_CELL_PX = 62 // and up to twice that, before the next level

/** The level whose cells are between 62 and 124 pixels wide at a scale (pixels in one unit of the map). */
export function levelFor(extent: Box, scale: number): number {
  return Math.max(0, Math.floor(Math.log2(((extent.right - extent.left) * scale) / SMALLEST_CELL_PX)))
}

export function cellSide({ extent, level }: Frame): number {
  return (extent.right - extent.left) / 2 ** level
}

/** The box made larger to whole cells, so that those at the edge show the same image however much of them is seen. */
export function wholeCells(frame: Frame, box: Box): Box {
  const side = cellSide(frame)
  const { left, bottom } = frame.extent
  return {
    left: left + Math.floor((box.left - left) / side) * side,
    right: left + Math.ceil((box.right - left) / side) * side,
    bottom: bottom + Math.floor((box.bottom - bottom) / side) * side,
    top: bottom + Math.ceil((box.top - bottom) / side) * side,
  }
}

/** A number that looks random, the same for a row every time; those with the lowest stand for the others. */
export function rankOf(row: number): number {
  let h = Math.imul(row ^ 0x9e3779b9, 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

const NEARBY = around(3)

export class ThumbnailLayout {
  private frame: Frame | undefined
  private taken = new Map<number, Placed>()
  private cellOf = new Map<number, number>()

  /** Begin anew: other rows may be shown, or they lie elsewhere. */
  clear(): void {
    this.frame = undefined
    this.taken.clear()
    this.cellOf.clear()
  }

  /**
   * Images for the cells of `box`.
   *
   * `rows`: those with points in it, in any order; `x`, `y`: coordinates by row. `everyone`: find a free cell for those
   * whose own is taken. The same rows and level give the same places, whichever part of the map came before, where
   * everyone has a cell of its own. `rank`: of the rows of a cell the one with the lowest is shown.
   */
  place(
    frame: Frame,
    box: Box,
    rows: ArrayLike<number>,
    x: Float32Array,
    y: Float32Array,
    everyone: boolean,
    rank: (row: number) => number = rankOf,
  ): Placed[] {
    if (this.frame?.level !== frame.level || this.frame.extent !== frame.extent) this.clear()
    this.frame = frame
    const side = cellSide(frame)
    const cell = (row: number) => ({
      column: Math.floor((x[row] - frame.extent.left) / side),
      line: Math.floor((y[row] - frame.extent.bottom) / side),
    })
    const without: number[] = []
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]
      const { column, line } = cell(row)
      const key = keyOf({ column, line })
      const before = this.taken.get(key)
      if (before?.row === row) continue
      // A guest from a neighbouring cell yields to those whose cell it is.
      const guest = before && key !== keyOf(cell(before.row))
      if (!before || guest || rank(row) < rank(before.row)) {
        if (this.cellOf.has(row)) this.taken.delete(this.cellOf.get(row) as number)
        if (before) {
          this.cellOf.delete(before.row)
          without.push(before.row)
        }
        this.put({ row, column, line })
      } else if (!this.cellOf.has(row)) without.push(row)
    }
    if (everyone)
      this.seat(
        without.filter((row) => !this.cellOf.has(row)).sort((a, b) => rank(a) - rank(b)),
        cell,
      )
    else this.dismissGuests(cell)
    return this.within(box, side)
  }

  private seat(rows: number[], cell: (row: number) => { column: number; line: number }): void {
    for (const row of rows) {
      const home = cell(row)
      for (const [dx, dy] of NEARBY) {
        const there = { row, column: home.column + dx, line: home.line + dy }
        if (this.taken.has(keyOf(there))) continue
        this.put(there)
        break
      }
    }
  }

  private dismissGuests(cell: (row: number) => { column: number; line: number }): void {
    for (const [key, placed] of this.taken)
      if (key !== keyOf(cell(placed.row))) {
        this.taken.delete(key)
        this.cellOf.delete(placed.row)
      }
  }

  private put(placed: Placed): void {
    this.taken.set(keyOf(placed), placed)
    this.cellOf.set(placed.row, keyOf(placed))
  }

  /** Those in view; those far from it are forgotten, so that memory stays small. */
  private within(box: Box, side: number): Placed[] {
    const { left, bottom } = (this.frame as Frame).extent
    const cells = {
      left: Math.floor((box.left - left) / side),
      right: Math.floor((box.right - left) / side),
      bottom: Math.floor((box.bottom - bottom) / side),
      top: Math.floor((box.top - bottom) / side),
    }
    const far = cells.right - cells.left + cells.top - cells.bottom + 8
    const seen: Placed[] = []
    for (const [key, placed] of this.taken) {
      const dx = Math.max(cells.left - placed.column, placed.column - cells.right)
      const dy = Math.max(cells.bottom - placed.line, placed.line - cells.top)
      if (dx <= 0 && dy <= 0) seen.push(placed)
      else if (Math.max(dx, dy) > far) {
        this.taken.delete(key)
        this.cellOf.delete(placed.row)
      }
    }
    return seen
  }
}

/** Where the middle of an image of `size` lies, as near to its point (x, y) as its cell allows; all in units of the map. */
export function seatOf(placed: Placed, frame: Frame, size: number, x: number, y: number): { x: number; y: number } {
  const side = cellSide(frame)
  const hold = (value: number, start: number) => Math.min(start + side - size / 2, Math.max(start + size / 2, value))
  return {
    x: hold(x, frame.extent.left + placed.column * side),
    y: hold(y, frame.extent.bottom + placed.line * side),
  }
}

function keyOf({ column, line }: { column: number; line: number }): number {
  return (line + 8) * 2 ** 25 + column + 8 // guests may sit a little outside of the map
}

/** Steps to the cells around one, the nearest first. */
function around(reach: number): [number, number][] {
  const steps: [number, number][] = []
  for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) if (dx || dy) steps.push([dx, dy])
  return steps.sort((a, b) => a[0] ** 2 + a[1] ** 2 - b[0] ** 2 - b[1] ** 2)
}
