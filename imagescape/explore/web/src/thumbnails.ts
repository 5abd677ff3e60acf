/** The small pictures: fetched many at a time, those looked at now before all others, and kept while there is room. */

const BATCH = 96
const AT_ONCE = 3
const KEPT = 4000
const WAIT_MS = 8

interface Kept {
  /** null: the image has no thumbnail. */
  blob: Blob | null
  bitmap?: ImageBitmap
  url?: string
}

export class Thumbnails {
  private readonly kept = new Map<number, Kept>()
  private readonly wishes = new Map<string, readonly number[]>()
  private readonly underway = new Set<number>()
  private readonly failed = new Map<number, number>()
  private readonly waiting = new Map<number, ((kept: Kept) => void)[]>()
  private readonly listeners: (() => void)[] = []
  private running = 0
  private timer = 0

  /** `fetch`: the pictures of rows, encoded; null for rows that have none. */
  constructor(private readonly fetch: (rows: number[]) => Promise<Map<number, Blob | null>>) {}

  /** Call `listener` whenever pictures have come. */
  onArrival(listener: () => void): void {
    this.listeners.push(listener)
  }

  /** Say which pictures `who` looks at now, the most wanted first; takes the place of what it wanted before. */
  want(who: string, rows: readonly number[]): void {
    this.wishes.set(who, rows)
    this.schedule()
  }

  /** The picture of a row, ready to draw; undefined until it has come, null where there is none. */
  bitmap(row: number): ImageBitmap | null | undefined {
    const kept = this.use(row)
    return kept && (kept.blob === null ? null : kept.bitmap)
  }

  /** The address of the picture of a row, for an `<img>`; null where there is none. */
  async url(row: number): Promise<string | null> {
    const kept = this.use(row) ?? (await this.fetched(row))
    if (kept.blob === null) return null
    kept.url ??= URL.createObjectURL(kept.blob)
    return kept.url
  }

  /** Forget everything: the rows are others now. */
  clear(): void {
    for (const row of [...this.kept.keys()]) this.drop(row)
    this.failed.clear()
  }

  private fetched(row: number): Promise<Kept> {
    return new Promise((resolve) => {
      this.waiting.set(row, [...(this.waiting.get(row) ?? []), resolve])
      this.schedule()
    })
  }

  private use(row: number): Kept | undefined {
    const kept = this.kept.get(row)
    if (kept) {
      this.kept.delete(row) // and to the end, as the one used last
      this.kept.set(row, kept)
    }
    return kept
  }

  private schedule(): void {
    if (!this.timer)
      this.timer = window.setTimeout(() => {
        this.timer = 0
        while (this.running < AT_ONCE && this.begin());
      }, WAIT_MS)
  }

  private begin(): boolean {
    const missing = (row: number) =>
      !this.kept.has(row) && !this.underway.has(row) && (this.failed.get(row) ?? 0) < performance.now()
    const batch = new Set<number>()
    for (const rows of [this.waiting.keys(), ...this.wishes.values()])
      for (const row of rows) {
        if (batch.size === BATCH) break
        if (missing(row)) batch.add(row)
      }
    if (batch.size === 0) return false
    void this.load([...batch])
    return true
  }

  private async load(rows: number[]): Promise<void> {
    this.running++
    for (const row of rows) this.underway.add(row)
    try {
      const found = await this.fetch(rows)
      await Promise.all(rows.map(async (row) => this.keep(row, await decoded(found.get(row) ?? null))))
    } catch {
      // The server is busy or away: these are asked for again when they are looked at in a while.
      for (const row of rows) this.failed.set(row, performance.now() + 3000)
      window.setTimeout(() => this.schedule(), 3100)
    }
    for (const row of rows) this.underway.delete(row)
    this.running--
    for (const listener of this.listeners) listener()
    this.schedule()
  }

  private keep(row: number, kept: Kept): void {
    this.kept.set(row, kept)
    for (const resolve of this.waiting.get(row) ?? []) resolve(kept)
    this.waiting.delete(row)
    if (this.kept.size > KEPT) this.drop(this.kept.keys().next().value as number)
  }

  private drop(row: number): void {
    const kept = this.kept.get(row)
    kept?.bitmap?.close()
    // An <img> that shows the address has decoded it by now, and keeps showing it.
    if (kept?.url) URL.revokeObjectURL(kept.url)
    this.kept.delete(row)
  }
}

async function decoded(blob: Blob | null): Promise<Kept> {
  if (!blob) return { blob: null }
  try {
    return { blob, bitmap: await createImageBitmap(blob) }
  } catch {
    return { blob: null } // not a picture that this browser can show
  }
}
