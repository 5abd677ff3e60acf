import { describe, expect, it } from 'vitest'
import { generator } from './generator'
import { boxAround, contains, isInside, overlap, widened } from '../src/map/geometry'

const square = [
  { x: 0, y: 0 },
  { x: 2, y: 0 },
  { x: 2, y: 2 },
  { x: 0, y: 2 },
]

describe('isInside', () => {
  it('tells inside from outside of a square', () => {
    expect(isInside(1, 1, square)).toBe(true)
    expect(isInside(3, 1, square)).toBe(false)
    expect(isInside(1, -1, square)).toBe(false)
  })

  it('leaves out the notch of an L', () => {
    const l = [
      { x: 0, y: 0 },
      { x: 3, y: 0 },
      { x: 3, y: 1 },
      { x: 1, y: 1 },
      { x: 1, y: 3 },
      { x: 0, y: 3 },
    ]
    expect(isInside(0.5, 2, l)).toBe(true)
    expect(isInside(2, 2, l)).toBe(false)
  })

  it('counts a crossing at a corner once', () => {
    const diamond = [
      { x: 0, y: -1 },
      { x: 1, y: 0 },
      { x: 0, y: 1 },
      { x: -1, y: 0 },
    ]
    expect(isInside(0, 0, diamond)).toBe(true)
    expect(isInside(-2, 0, diamond)).toBe(false)
    expect(isInside(2, 0, diamond)).toBe(false)
  })

  it('takes what a self-crossing line goes around twice as outside', () => {
    const pentagram = [0, 2, 4, 1, 3].map((corner) => ({
      x: Math.sin((2 * Math.PI * corner) / 5),
      y: Math.cos((2 * Math.PI * corner) / 5),
    }))
    expect(isInside(0, 0, pentagram)).toBe(false)
    expect(isInside(0, 0.8, pentagram)).toBe(true)
  })

  it('agrees with the sum of angles for random star-shaped polygons', () => {
    const random = generator(1)
    for (let trial = 0; trial < 50; trial++) {
      const polygon = Array.from({ length: 9 }, (_, i) => {
        const radius = 0.3 + random()
        return { x: radius * Math.cos((2 * Math.PI * i) / 9), y: radius * Math.sin((2 * Math.PI * i) / 9) }
      })
      for (let i = 0; i < 40; i++) {
        const [x, y] = [3 * random() - 1.5, 3 * random() - 1.5]
        expect(isInside(x, y, polygon)).toBe(Math.abs(winding(x, y, polygon)) > 0.5)
      }
    }
  })
})

describe('boxes', () => {
  it('are around, over and within each other', () => {
    const box = boxAround(square)
    expect(box).toEqual({ left: 0, bottom: 0, right: 2, top: 2 })
    expect(widened(box, 0.5)).toEqual({ left: -1, bottom: -1, right: 3, top: 3 })
    expect(contains(widened(box, 0.5), box)).toBe(true)
    expect(contains(box, widened(box, 0.5))).toBe(false)
    expect(overlap(box, { left: 2, bottom: 0, right: 3, top: 1 })).toBe(false)
    expect(overlap(box, { left: 1.9, bottom: 0, right: 3, top: 1 })).toBe(true)
  })
})

function winding(x: number, y: number, polygon: { x: number; y: number }[]): number {
  let turned = 0
  polygon.forEach((a, i) => {
    const b = polygon[(i + 1) % polygon.length]
    const angle = Math.atan2(b.y - y, b.x - x) - Math.atan2(a.y - y, a.x - x)
    turned += Math.atan2(Math.sin(angle), Math.cos(angle))
  })
  return turned / (2 * Math.PI)
}
