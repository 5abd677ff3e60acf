import { describe, expect, it } from 'vitest'
import { PointIndex } from '../src/map/point_index'
import { Points } from '../src/map/points'
import { isInside } from '../src/map/geometry'
import { generator } from './generator'

function cloud(count: number, seed = 7): [Float32Array, Float32Array] {
  const random = generator(seed)
  const x = Float32Array.from({ length: count }, () => 50 * random() ** 2 - 10)
  const y = Float32Array.from({ length: count }, () => 20 * random() + 100)
  for (let row = 0; row < count; row += 17) x[row] = y[row] = NaN
  return [x, y]
}

const rows = (count: number) => Array.from({ length: count }, (_, row) => row)

describe('PointIndex', () => {
  const [x, y] = cloud(3000)
  const index = new PointIndex(x, y)

  it('holds every placed row once', () => {
    expect([...index.order].sort((a, b) => a - b)).toEqual(rows(3000).filter((row) => row % 17))
  })

  it('finds what a loop over all finds, in boxes and polygons', () => {
    const random = generator(3)
    for (let trial = 0; trial < 20; trial++) {
      const box = { left: -12 + 40 * random(), bottom: 99 + 15 * random(), right: 0, top: 0 }
      box.right = box.left + 20 * random()
      box.top = box.bottom + 10 * random()
      const within = rows(3000).filter(
        (row) => x[row] >= box.left && x[row] <= box.right && y[row] >= box.bottom && y[row] <= box.top,
      )
      expect([...index.inBox(box)]).toEqual(within)
      const polygon = rows(7).map(() => ({ x: -12 + 55 * random(), y: 99 + 22 * random() }))
      expect([...index.inPolygon(polygon)]).toEqual(rows(3000).filter((row) => isInside(x[row], y[row], polygon)))
    }
  })

  it('finds the nearest, as a loop over all does', () => {
    const random = generator(4)
    for (let trial = 0; trial < 30; trial++) {
      const at = { x: -20 + 70 * random(), y: 90 + 40 * random() }
      const byDistance = rows(3000)
        .filter((row) => row % 17)
        .sort((a, b) => Math.hypot(x[a] - at.x, y[a] - at.y) - Math.hypot(x[b] - at.x, y[b] - at.y) || a - b)
      expect(index.nearestRows(at.x, at.y, 5)).toEqual(byDistance.slice(0, 5))
      const even = byDistance.find((row) => row % 2 === 0)
      expect(index.nearest(at.x, at.y, Infinity, (row) => row % 2 === 0)).toBe(even)
    }
  })

  it('finds nothing beyond the radius', () => {
    expect(index.nearest(1000, 1000, 5)).toBe(-1)
  })

  it('asks for more than there are and gives all', () => {
    const few = new PointIndex(Float32Array.of(0, 1, NaN), Float32Array.of(0, 1, NaN))
    expect(few.nearestRows(0, 0, 10)).toEqual([0, 1])
  })

  it('bears points that all lie in one place, and none at all', () => {
    const same = new PointIndex(new Float32Array(100).fill(3), new Float32Array(100).fill(3))
    expect(same.nearestRows(3, 3, 100)).toHaveLength(100)
    expect(
      new PointIndex(new Float32Array(0), new Float32Array(0)).inBox({ left: -1, right: 1, bottom: -1, top: 1 }),
    ).toHaveLength(0)
  })
})

describe('Points', () => {
  it('keeps every colour with its row, whatever the order of the index', () => {
    const [x, y] = cloud(500)
    const points = new Points(x, y)
    const shades = new Uint8Array(4 * 500)
    for (let row = 0; row < 500; row++) new DataView(shades.buffer).setUint32(4 * row, row, true)
    points.paint(shades)
    const painted = new DataView(points.colors.buffer)
    points.index.order.forEach((row, i) => {
      expect(painted.getUint32(4 * i, true)).toBe(row)
      expect(points.places[2 * i]).toBe(x[row])
      expect(points.places[2 * i + 1]).toBe(y[row])
    })
  })

  it('tells rows from places where only some are held', () => {
    const points = new Points(Float32Array.of(1, 2), Float32Array.of(3, 4), Uint32Array.of(70, 9))
    expect([points.row(0), points.place(9), points.place(5)]).toEqual([70, 1, -1])
  })
})
