import { tableFromArrays, tableToIPC } from 'apache-arrow'
import { describe, expect, it } from 'vitest'
import { hexOf, Ids, numbers, readTable, unpackThumbnails } from '../src/client/arrow'
import type { Details, Quadtree } from '../src/client/client'
import { csv } from '../src/client/static'
import { sampleWeights, tilesFor } from '../src/map/point_source'
import { Filters } from '../src/columns/filters'
import { columnOf } from '../src/columns/column'
import { shadesOf } from '../src/columns/shades'
import { RowSet } from '../src/row_set'

describe('ids', () => {
  it('are the same in both ways, up to all 64 bits', () => {
    const all = BigUint64Array.of(0n, 0x00ff00ff00ff00ffn, 0xffffffffffffffffn)
    const ids = new Ids(all)
    expect(ids.hex(1)).toBe('00ff00ff00ff00ff')
    expect(ids.hex(2)).toBe('ffffffffffffffff')
    all.forEach((id, row) => expect(ids.row(hexOf(id))).toBe(row))
    expect(ids.row('0123456789abcdef')).toBe(-1)
  })
})

describe('thumbnails', () => {
  it('come out in the order they were asked for, those that are missing as null', async () => {
    const body = new Uint8Array([3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 65, 66, 67])
    const found = unpackThumbnails(body.buffer)
    expect(found[1]).toBeNull()
    expect(await found[0]?.text()).toBe('AB')
    expect(await found[2]?.text()).toBe('C')
  })
})

describe('Arrow', () => {
  it('streams of several batches become one array', async () => {
    const table = tableFromArrays({ x: Float32Array.of(1, 2, 3) })
    const twice = table.concat(tableFromArrays({ x: Float32Array.of(4, NaN) }))
    const read = await readTable(new Response(tableToIPC(twice, 'stream') as Uint8Array<ArrayBuffer>))
    expect(numbers<Float32Array>(read, 'x')).toEqual(Float32Array.of(1, 2, 3, 4, NaN))
  })
})

describe('csv', () => {
  it('quotes what needs it, and nothing becomes a formula of its own', () => {
    const details = [
      {
        id: 'a1',
        values: [
          ['label', 'cat, "big"'],
          ['width', 3],
          ['tags', ['x', 'y']],
        ],
      },
      {
        id: 'b2',
        values: [
          ['label', null],
          ['width', 4],
        ],
      },
    ] as unknown as Details[]
    expect(csv(details)).toBe('image_id,label,width,tags\r\na1,"cat, ""big""",3,"[""x"",""y""]"\r\nb2,,4,\r\n')
  })
})

describe('tilesFor', () => {
  const tree: Quadtree = {
    x0: 0,
    y0: 0,
    size: 8,
    depth: 2,
    capacity: 100,
    tiles: [
      [0, 0, 0, 100],
      [1, 0, 0, 100],
      [1, 1, 1, 100],
      [2, 0, 0, 80],
      [2, 3, 3, 80],
    ],
  }

  it('goes as deep as there is room for', () => {
    const all = { left: 0, bottom: 0, right: 8, top: 8 }
    expect(tilesFor(tree, all, 150).map(([z]) => z)).toEqual([0])
    expect(tilesFor(tree, all, 300).map(([z]) => z)).toEqual([0, 1, 1])
    expect(tilesFor(tree, all, 460)).toHaveLength(5)
  })

  it('takes all tiles above a corner, and none elsewhere', () => {
    const corner = { left: 0.1, bottom: 0.1, right: 1.9, top: 1.9 }
    expect(tilesFor(tree, corner, 1000)).toEqual([tree.tiles[0], tree.tiles[1], tree.tiles[3]])
  })
})

describe('sampleWeights', () => {
  it('share out what lies deeper among what is here', () => {
    const tree: Quadtree = {
      x0: 0,
      y0: 0,
      size: 4,
      depth: 2,
      capacity: 2,
      tiles: [
        [0, 0, 0, 2],
        [1, 0, 0, 2],
        [1, 1, 1, 1],
        [2, 1, 1, 9],
      ],
    }
    const [x, y] = [Float32Array.of(0.5, 3.5, 1.5, 1.2, 3.9), Float32Array.of(0.5, 3.5, 1.5, 0.1, 4)]
    // All of level 1 is here: three of the five points lie in its lower left square, below which there are nine more.
    expect([...sampleWeights(tree, tree.tiles.slice(0, 3), x, y)]).toEqual([4, 1, 4, 4, 1])
    // Of level 0 only: twelve more below two.
    expect([...sampleWeights(tree, tree.tiles.slice(0, 1), x.slice(0, 2), y.slice(0, 2))]).toEqual([7, 7])
  })
})

describe('filters and shades', () => {
  const classes = columnOf(
    'c',
    { kind: 'classes', rows: 4, names: ['a', 'b'], colors: ['#ff0000', '#0000ff'], counts: [2, 1] },
    Int32Array.of(0, 1, -1, 0),
  )
  const amounts = columnOf('v', { kind: 'amounts', rows: 4, low: 0, high: 1 }, Float64Array.of(0.1, 0.9, NaN, 0.5))
  const known = (name: string) => (name === 'c' ? classes : amounts)

  it('let pass what meets all conditions', () => {
    const filters = new Filters()
    expect(filters.mask(4, known)).toBeUndefined()
    filters.set('c', { kind: 'without', classes: new Set([1]) })
    expect([...(filters.mask(4, known) ?? [])]).toEqual([1, 0, 1, 1])
    filters.set('v', { kind: 'between', low: 0.2, high: 1 })
    expect([...(filters.mask(4, known) ?? [])]).toEqual([0, 0, 0, 1])
    filters.set('v', undefined)
    filters.set('these', { kind: 'rows', rows: new RowSet([10, 12], 20) })
    expect([...(filters.mask(4, known, Uint32Array.of(12, 10, 11, 13)) ?? [])]).toEqual([1, 0, 0, 0])
    expect(filters.columns).toEqual(['c'])
  })

  it('colour by class, hide what does not pass, and dim what is not selected', () => {
    const shades = shadesOf(4, {
      column: classes,
      theme: 'light',
      passing: Uint8Array.of(1, 1, 1, 0),
      bright: new RowSet([0], 4),
    })
    expect([...shades.slice(0, 3)]).toEqual([255, 0, 0])
    expect([...shades.slice(4, 7)]).toEqual([0, 0, 255])
    expect(shades[3]).toBeGreaterThan(shades[7])
    expect(shades[7]).toBeGreaterThan(0)
    expect(shades[15]).toBe(0)
  })
})
