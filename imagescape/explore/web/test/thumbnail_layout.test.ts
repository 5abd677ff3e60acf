import { describe, expect, it } from 'vitest'
import {
  cellSide,
  levelFor,
  rankOf,
  seatOf,
  ThumbnailLayout,
  wholeCells,
  type Placed,
} from '../src/map/thumbnail_layout'
import { PointIndex } from '../src/map/point_index'
import { widened } from '../src/map/geometry'
import { generator } from './generator'

const random = generator(11)
const COUNT = 4000
const x = Float32Array.from({ length: COUNT }, () => random() * random() * 100)
const y = Float32Array.from({ length: COUNT }, () => random() * 100)
const index = new PointIndex(x, y)
const { extent } = index

function rowsIn(frame: { extent: typeof extent; level: number }, box: typeof extent) {
  const wide = wholeCells(frame, box)
  return { wide, rows: index.inBox(wide) }
}

function place(layout: ThumbnailLayout, level: number, box: typeof extent, everyone = false): Placed[] {
  const frame = { extent, level }
  const { wide, rows } = rowsIn(frame, box)
  return layout.place(frame, wide, rows, x, y, everyone)
}

describe('ThumbnailLayout', () => {
  it('lays no image over another, each within reach of its point', () => {
    const frame = { extent, level: 4 }
    const side = cellSide(frame)
    const size = side * 0.86
    const seats = place(new ThumbnailLayout(), 4, extent).map((one) => ({
      ...seatOf(one, frame, size, x[one.row], y[one.row]),
      row: one.row,
    }))
    expect(seats.length).toBeGreaterThan(100)
    for (const a of seats) {
      expect(Math.max(Math.abs(a.x - x[a.row]), Math.abs(a.y - y[a.row]))).toBeLessThanOrEqual(size / 2 + 1e-3)
      const others = seats.filter((b) => b.row !== a.row)
      const nearest = Math.min(...others.map((b) => Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y))))
      expect(nearest).toBeGreaterThanOrEqual(size - 1e-3)
    }
  })

  it('shows in each cell the row of lowest rank', () => {
    const frame = { extent, level: 3 }
    const side = cellSide(frame)
    const best = new Map<string, number>()
    for (let row = 0; row < COUNT; row++) {
      const key = `${Math.floor((x[row] - extent.left) / side)},${Math.floor((y[row] - extent.bottom) / side)}`
      const other = best.get(key)
      if (other === undefined || rankOf(row) < rankOf(other)) best.set(key, row)
    }
    expect(
      place(new ThumbnailLayout(), 3, widened(extent, 0.1))
        .map((one) => one.row)
        .sort(),
    ).toEqual([...best.values()].sort())
  })

  it('keeps images where they are while the map is moved', () => {
    const layout = new ThumbnailLayout()
    const frame = { extent, level: 5 }
    const box = (start: number) => ({ left: start, right: start + 30, bottom: 20, top: 50 })
    const seen = new Map<number, string>()
    let met = 0
    for (let start = 5; start < 40; start += 1.7) {
      const { wide, rows } = rowsIn(frame, box(start))
      for (const one of layout.place(frame, wide, rows, x, y, false)) {
        const before = seen.get(one.row)
        if (before !== undefined) {
          expect(`${one.column},${one.line}`).toBe(before)
          met++
        }
        seen.set(one.row, `${one.column},${one.line}`)
      }
    }
    expect(met).toBeGreaterThan(1000)
  })

  it('keeps what was shown when the map is enlarged', () => {
    const coarse = place(new ThumbnailLayout(), 3, extent).map((one) => one.row)
    const fine = new Set(place(new ThumbnailLayout(), 4, extent).map((one) => one.row))
    for (const row of coarse) expect(fine.has(row)).toBe(true)
  })

  it('finds a free cell for everyone where they are few', () => {
    const frame = { extent: { left: 0, right: 8, bottom: 0, top: 8 }, level: 3 }
    const [px, py] = [new Float32Array(9).fill(4.5), new Float32Array(9).fill(4.5)]
    const placed = new ThumbnailLayout().place(frame, frame.extent, [0, 1, 2, 3, 4, 5, 6, 7, 8], px, py, true)
    expect(new Set(placed.map((one) => one.row)).size).toBe(9)
    expect(new Set(placed.map((one) => `${one.column},${one.line}`)).size).toBe(9)
    for (const { column, line } of placed)
      expect(Math.max(Math.abs(column - 4), Math.abs(line - 4))).toBeLessThanOrEqual(1)
  })

  it('gives a cell back to a row whose own it is', () => {
    const frame = { extent: { left: 0, right: 8, bottom: 0, top: 8 }, level: 3 }
    const [px, py] = [Float32Array.of(4.5, 4.5, 5.5), Float32Array.of(4.5, 4.5, 4.5)]
    const layout = new ThumbnailLayout()
    layout.place(frame, frame.extent, [0, 1], px, py, true)
    for (const column of [3, 5]) px[2] = column + 0.5
    const placed = layout.place(frame, frame.extent, [0, 1, 2], px, py, true)
    expect(placed.find((one) => one.row === 2)).toMatchObject({ column: 5, line: 4 })
    expect(placed).toHaveLength(3)
  })
})

describe('levelFor', () => {
  it('makes cells of 62 to 124 pixels', () => {
    for (const scale of [5, 8.3, 31, 400]) {
      const side = cellSide({ extent, level: levelFor(extent, scale) }) * scale
      expect(side).toBeGreaterThanOrEqual(62)
      expect(side).toBeLessThan(124)
    }
  })
})
