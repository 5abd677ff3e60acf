/** What images are called: asked for many at a time, and remembered. */

const BATCH = 512
const WAIT_MS = 12
const KEPT = 200_000

export class Names {
  private readonly known = new Map<number, string>()
  private waiting = new Map<number, ((name: string) => void)[]>()
  private timer = 0

  constructor(private readonly fetch: (rows: number[]) => Promise<Map<number, string>>) {}

  /** The name of a row if it is known; it is not asked for. */
  peek(row: number): string | undefined {
    return this.known.get(row)
  }

  of(row: number): Promise<string> {
    const known = this.known.get(row)
    if (known !== undefined) return Promise.resolve(known)
    return new Promise((resolve) => {
      this.waiting.set(row, [...(this.waiting.get(row) ?? []), resolve])
      this.timer ||= window.setTimeout(() => void this.ask(), WAIT_MS)
    })
  }

  private async ask(): Promise<void> {
    this.timer = 0
    const asked = this.waiting
    this.waiting = new Map()
    const rows = [...asked.keys()]
    for (let start = 0; start < rows.length; start += BATCH) {
      const some = rows.slice(start, start + BATCH)
      const names = await this.fetch(some).catch(() => new Map<number, string>())
      for (const row of some) {
        const name = names.get(row)
        if (name !== undefined) this.keep(row, name)
        for (const resolve of asked.get(row) ?? []) resolve(name ?? '')
      }
    }
  }

  private keep(row: number, name: string): void {
    this.known.set(row, name)
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value as number)
  }
}
