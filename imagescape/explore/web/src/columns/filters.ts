/** Which images pass: conditions on columns that all must hold. */

import type { RowSet } from '../row_set'
import type { Column } from './column'

export type Condition =
  /** Classes that do not pass, -1 for images without one. */
  | { kind: 'without'; classes: ReadonlySet<number> }
  | { kind: 'between'; low: number; high: number }
  /** Only these rows; on no column. */
  | { kind: 'rows'; rows: RowSet }

export class Filters {
  private readonly conditions = new Map<string, Condition>()
  private readonly listeners: (() => void)[] = []

  onChange(listener: () => void): void {
    this.listeners.push(listener)
  }

  /** Set the condition on a column, or one of rows under a title; undefined lifts it. */
  set(name: string, condition: Condition | undefined): void {
    if (condition) this.conditions.set(name, condition)
    else this.conditions.delete(name)
    this.tell()
  }

  get(name: string): Condition | undefined {
    return this.conditions.get(name)
  }

  clear(): void {
    this.conditions.clear()
    this.tell()
  }

  /** Conditions by the name of what they are on, in the order they were set. */
  get all(): ReadonlyMap<string, Condition> {
    return this.conditions
  }

  /** Columns that conditions are on. */
  get columns(): string[] {
    return [...this.conditions].filter(([, condition]) => condition.kind !== 'rows').map(([name]) => name)
  }

  /**
   * 1 for each of `count` places that passes, or undefined if all do.
   *
   * `columnOf`: the column of a name, by place; `rows`: the row at each place, undefined where they are the same.
   */
  mask(count: number, columnOf: (name: string) => Column | undefined, rows?: Uint32Array): Uint8Array | undefined {
    if (!this.conditions.size) return undefined
    const mask = new Uint8Array(count).fill(1)
    for (const [name, condition] of this.conditions) {
      const fails = failing(condition, columnOf(name), rows)
      for (let place = 0; place < count; place++) if (mask[place] && fails(place)) mask[place] = 0
    }
    return mask
  }

  private tell(): void {
    for (const listener of this.listeners) listener()
  }
}

function failing(condition: Condition, column: Column | undefined, rows?: Uint32Array): (place: number) => boolean {
  if (condition.kind === 'rows') return (place) => !condition.rows.has(rows ? rows[place] : place)
  if (condition.kind === 'between' && column?.kind === 'amounts') {
    const { values } = column
    return (place) => !(values[place] >= condition.low && values[place] <= condition.high)
  }
  if (condition.kind === 'without' && column?.kind === 'classes') {
    const { codes, names } = column
    const out = new Uint8Array(names.length + 1)
    for (const code of condition.classes) out[code + 1] = 1
    return (place) => out[codes[place] + 1] === 1
  }
  return () => false // its values are still on their way
}
