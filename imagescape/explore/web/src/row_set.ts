/** A set of rows, a bit each. */
export class RowSet {
  readonly size: number
  private readonly bits: Uint8Array

  /** `total`: rows of the table. */
  constructor(rows: ArrayLike<number>, total: number) {
    this.bits = new Uint8Array((total >> 3) + 1)
    for (let i = 0; i < rows.length; i++) this.bits[rows[i] >> 3] |= 1 << (rows[i] & 7)
    this.size = rows.length
  }

  has(row: number): boolean {
    return (this.bits[row >> 3] & (1 << (row & 7))) !== 0
  }
}
