import { describe, expect, it } from 'vitest'
import { densityPicture } from '../src/map/density'

const box = { left: 0, right: 2, bottom: 0, top: 1 }
const red = [255, 0, 0, 255]
const blue = [0, 0, 255, 255]
const hidden = [9, 9, 9, 0]

function picture(points: [number, number, number[]][], weights?: number[]) {
  const places = Float32Array.from(points.flatMap(([x, y]) => [x, y]))
  const colors = Uint8Array.from(points.flatMap(([, , color]) => color))
  const data = { places, colors, weights: weights && Float32Array.from(weights) }
  const { pixels } = densityPicture(data, [[0, points.length]], box, 2, 1)
  return [[...pixels.slice(0, 4)], [...pixels.slice(4, 8)]]
}

describe('densityPicture', () => {
  it('has the mean colour of the points of each spot, and none where there are none', () => {
    const [left, right] = picture([
      [0.2, 0.5, red],
      [0.7, 0.1, blue],
      [0.9, 0.9, blue],
      [0.1, 0.1, blue],
    ])
    expect(left.slice(0, 3)).toEqual([64, 0, 191])
    expect(right).toEqual([0, 0, 0, 0])
  })

  it('is fuller where there is more, and does not see what is hidden or outside', () => {
    const [left, right] = picture([
      [0.5, 0.5, red],
      [1.5, 0.5, red],
      [1.6, 0.5, red],
      [0.5, 0.5, hidden],
      [0.5, 3, red],
      [-1, 0.5, red],
    ])
    expect(left[3]).toBeGreaterThan(0)
    expect(right[3]).toBeGreaterThan(left[3])
  })

  it('spreads what a sample stands for, and keeps how much there is', () => {
    const wide = { left: 0, right: 41, bottom: 0, top: 41 }
    const of = (weights: number[]) => {
      const places = Float32Array.of(10.5, 20.5, 30.5, 20.5)
      const colors = Uint8Array.from([...red, ...blue])
      return densityPicture({ places, colors, weights: Float32Array.from(weights) }, [[0, 2]], wide, 41, 41).pixels
    }
    const at = (pixels: Uint8ClampedArray, column: number, line: number) => [
      ...pixels.slice(4 * (line * 41 + column), 4 * (line * 41 + column) + 4),
    ]
    const even = of([50, 50])
    expect(at(even, 10, 20).slice(0, 3)).toEqual([255, 0, 0])
    expect(at(even, 8, 21).slice(0, 3)).toEqual([255, 0, 0])
    expect(at(even, 10, 20)[3]).toBe(at(even, 30, 20)[3])
    expect(at(even, 10, 20)[3]).toBeGreaterThan(at(even, 14, 20)[3])
    expect(at(even, 20, 20)).toEqual([0, 0, 0, 0])
    const uneven = of([50, 5000])
    expect(at(uneven, 30, 20)[3]).toBeGreaterThan(at(uneven, 10, 20)[3])
  })
})
