import { describe, expect, it } from 'vitest'
import { labelScale, placeLabels, type Named } from '../src/map/label_layout'
import { generator } from './generator'

const measure = (name: string) => ({ width: 8 * name.length, height: 20 })
const random = generator(5)
const named: Named[] = Array.from({ length: 300 }, (_, id) => ({
  id,
  name: 'n'.repeat(3 + Math.floor(9 * random())),
  size: 1 + Math.floor(1000 * random()),
  x: random(),
  y: random(),
  level: 4 * random() * random(),
}))

describe('placeLabels', () => {
  it('lays none over another, also when the map is a little larger than the labels were chosen for', () => {
    for (const scale of [300, 700, 3000]) {
      const shown = placeLabels(named, labelScale(scale), 600, measure)
      expect(shown.length).toBeGreaterThan(3)
      for (const a of shown)
        for (const b of shown)
          if (a.id < b.id) {
            const [dx, dy] = [Math.abs(a.x - b.x) * scale, Math.abs(a.y - b.y) * scale]
            expect(dx >= (measure(a.name).width + measure(b.name).width) / 2 || dy >= 20).toBe(true)
          }
    }
  })

  it('shows the larger of two that collide', () => {
    const pair = [
      { id: 1, name: 'small', size: 3, x: 0.5, y: 0.5, level: 0 },
      { id: 2, name: 'large', size: 9, x: 0.501, y: 0.5, level: 0 },
    ]
    expect(placeLabels(pair, 600, 600, measure).map((one) => one.id)).toEqual([2])
    expect(placeLabels(pair, 600_000, 600, measure).map((one) => one.id)).toEqual([2, 1])
  })

  it('keeps names for nearer views until those come', () => {
    const one = [{ id: 1, name: 'deep', size: 3, x: 0, y: 0, level: 3 }]
    expect(placeLabels(one, 600, 600, measure)).toEqual([])
    expect(placeLabels(one, 600 * 8, 600, measure)).toEqual(one)
  })
})
