/** A column of the table as the page holds it: classes, amounts or texts, one value a place. */

import { readable } from '../dom'

export type ColumnKind = 'classes' | 'amounts' | 'texts' | 'lists'

export interface Classes {
  kind: 'classes'
  name: string
  names: string[]
  /** What the table holds for each class: a text, a number or a boolean. */
  values: unknown[]
  /** Images of each class, in the whole table. */
  counts: number[]
  /** "#rrggbb" of each class. */
  colors: string[]
  /** Rows of the table. */
  rows: number
  /** Class of each place, -1 for none. */
  codes: Int32Array
}

export interface Amounts {
  kind: 'amounts'
  name: string
  /** NaN for none. */
  values: Float64Array
  /** Between these colours differ; a few lie outside. */
  low: number
  high: number
  min: number
  max: number
}

export interface Texts {
  kind: 'texts' | 'lists'
  name: string
  get: (place: number) => string
}

export type Column = Classes | Amounts | Texts

/** What is known of a column beside its values. */
export interface Summary {
  kind: ColumnKind
  rows: number
  values?: unknown[]
  names?: string[]
  counts?: number[]
  colors?: string[]
  low?: number
  high?: number
  min?: number
  max?: number
}

/** A column made of its summary and its values. */
export function columnOf(
  name: string,
  about: Summary,
  values: Int32Array | Float64Array | ((place: number) => string),
): Column {
  if (about.kind === 'classes') {
    const { names = [], counts = [], colors = [], rows } = about
    return {
      kind: 'classes',
      name,
      names,
      values: about.values ?? [],
      counts,
      colors,
      rows,
      codes: values as Int32Array,
    }
  }
  if (about.kind === 'amounts') {
    const { low = 0, high = 0, min = low, max = high } = about
    return { kind: 'amounts', name, values: values as Float64Array, low, high, min, max }
  }
  return { kind: about.kind, name, get: values as (place: number) => string }
}

/** The same column with the values of other places. */
export function withValues(column: Column, values: Int32Array | Float64Array): Column {
  if (column.kind === 'classes') return { ...column, codes: values as Int32Array }
  return column.kind === 'amounts' ? { ...column, values: values as Float64Array } : column
}

/** What a column says of an image, as text; "" where it says nothing. */
export function textOf(column: Column, place: number): string {
  if (column.kind === 'classes') return column.codes[place] < 0 ? '' : column.names[column.codes[place]]
  if (column.kind === 'amounts')
    return column.values[place] === column.values[place] ? readable(column.values[place]) : ''
  return column.get(place)
}
