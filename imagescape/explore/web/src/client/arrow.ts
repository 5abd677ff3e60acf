/** Arrow streams as arrays of the page. */

import { tableFromIPC, type Table } from 'apache-arrow'
import { columnOf, type Column, type Summary } from '../columns/column'

export async function readTable(response: Response): Promise<Table> {
  return tableFromIPC(new Uint8Array(await response.arrayBuffer()))
}

/** A field of plain numbers, all batches as one array. */
export function numbers<T>(table: Table, field: string): T {
  const vector = table.getChild(field)
  if (!vector) throw new Error(`the answer has no field '${field}'`)
  return vector.toArray() as T
}

/** The metadata of a column's stream; every value is a JSON text. */
export function summaryOf(table: Table): Summary {
  const summary: Record<string, unknown> = {}
  for (const [key, value] of table.schema.metadata) summary[key] = JSON.parse(value)
  return summary as unknown as Summary
}

export function readColumn(name: string, table: Table): Column {
  const summary = summaryOf(table)
  if (summary.kind === 'classes') return columnOf(name, summary, numbers<Int32Array>(table, 'code'))
  if (summary.kind === 'amounts') return columnOf(name, summary, numbers<Float64Array>(table, 'value'))
  const texts = table.getChild('value')
  return columnOf(name, summary, (row) => {
    const value: unknown = texts?.get(row)
    if (value === null || value === undefined) return ''
    return typeof value === 'string' ? value : [...(value as Iterable<unknown>)].join(', ')
  })
}

/** Ids in both ways: 64 bits by row, and 16 hex digits as the server writes and reads them. */
export class Ids {
  private rows: Map<bigint, number> | undefined

  constructor(private readonly numbers: BigUint64Array) {}

  hex(row: number): string {
    return hexOf(this.numbers[row])
  }

  row(hex: string): number {
    this.rows ??= new Map(Array.from(this.numbers, (id, row) => [id, row]))
    return this.rows.get(BigInt(`0x${hex}`)) ?? -1
  }
}

export function hexOf(id: bigint): string {
  return id.toString(16).padStart(16, '0')
}

/** Thumbnails as they are sent: how many, how long each is, then one after another. */
export function unpackThumbnails(bytes: ArrayBuffer): (Blob | null)[] {
  const view = new DataView(bytes)
  const count = view.getUint32(0, true)
  const found: (Blob | null)[] = []
  let start = 4 + 4 * count
  for (let i = 0; i < count; i++) {
    const length = view.getUint32(4 + 4 * i, true)
    found.push(length ? new Blob([new Uint8Array(bytes, start, length)], { type: 'image/webp' }) : null)
    start += length
  }
  return found
}
