/** The colour of every point: by a column, faint where others are selected, none where a filter hides it. */

import type { RowSet } from '../row_set'
import type { Column } from './column'
import { amountColor, classColor, NONE, type Rgb, type Theme } from './palette'

const FULL = 235
const FAINT = 46
const STEPS = 256
const PLAIN: Record<Theme, Rgb> = { light: [70, 112, 178], dark: [130, 170, 230] }

export interface ShadeOptions {
  column: Column | null
  theme: Theme
  /** 1 for places that pass the filters; undefined if all do. */
  passing?: Uint8Array
  /** Rows to stand out, others turn faint; undefined if none do. */
  bright?: RowSet
  /** The row at each place; undefined where they are the same. */
  rows?: Uint32Array
}

/** Red, green, blue and alpha for each of `count` places. */
export function shadesOf(count: number, { column, theme, passing, bright, rows }: ShadeOptions): Uint8Array {
  const shades = new Uint8Array(4 * count)
  const words = new Uint32Array(shades.buffer)
  const colorOf = coloring(column, theme)
  for (let place = 0; place < count; place++) {
    if (passing && !passing[place]) continue
    const alpha = bright && !bright.has(rows ? rows[place] : place) ? FAINT : FULL
    words[place] = (colorOf(place) | (alpha << 24)) >>> 0 // little-endian: red first
  }
  return shades
}

function coloring(column: Column | null, theme: Theme): (place: number) => number {
  if (column?.kind === 'classes') {
    const words = Uint32Array.from([NONE[theme], ...column.colors.map(classColor)], word)
    const { codes } = column
    return (place) => words[codes[place] + 1]
  }
  if (column?.kind === 'amounts') {
    const words = Uint32Array.from({ length: STEPS }, (_, step) => word(amountColor(step / (STEPS - 1), theme)))
    const none = word(NONE[theme])
    const { values, low, high } = column
    const scale = high > low ? (STEPS - 1) / (high - low) : 0
    return (place) => {
      const value = values[place]
      return value === value ? words[Math.min(STEPS - 1, Math.max(0, Math.round((value - low) * scale)))] : none
    }
  }
  const plain = word(PLAIN[theme])
  return () => plain
}

function word([red, green, blue]: Rgb): number {
  return red | (green << 8) | (blue << 16)
}
