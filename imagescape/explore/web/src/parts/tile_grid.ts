/** Images as a grid of tiles. Only those in sight are elements of the page, so a hundred thousand scroll like ten. */

import { element } from '../dom'
import type { Thumbnails } from '../thumbnails'

const CAPTION_PX = 20
const GAP_PX = 8
const BEYOND = 2 // lines kept ready above and below

export interface TileGridOptions {
  /** Names the grid where screen readers announce it. */
  label: string
  caption: (row: number, index: number) => string
  /** What an image is called; the caption is written again when it is known. */
  name: (row: number) => Promise<string>
  onOpen: (row: number) => void
  onPoint?: (row: number) => void
  onMark?: (row: number) => void
  isMarked?: (row: number) => boolean
  tilePx?: number
}

export class TileGrid {
  readonly node: HTMLElement
  private readonly sheet: HTMLElement
  private readonly tiles = new Map<number, HTMLElement>()
  private rows: ArrayLike<number> = []
  private current = 0
  private columns = 1
  private tilePx: number
  private readonly who = `grid ${Math.random()}`

  constructor(
    private readonly thumbnails: Thumbnails,
    private readonly options: TileGridOptions,
  ) {
    this.tilePx = options.tilePx ?? 112
    this.sheet = element('div', { class: 'sheet', attributes: { role: 'presentation' } })
    this.node = element(
      'div',
      {
        class: 'tile-grid',
        attributes: { role: 'listbox', 'aria-label': options.label, tabindex: 0 },
        on: {
          scroll: () => this.render(),
          keydown: (event) => this.key(event),
          focus: () => this.announce(),
          pointerleave: () => options.onPoint?.(-1),
        },
      },
      this.sheet,
    )
    new ResizeObserver(() => this.render(true)).observe(this.node)
  }

  /** Show these rows, from the first. */
  show(rows: ArrayLike<number>): void {
    this.rows = rows
    this.current = 0
    this.node.scrollTop = 0
    this.render(true)
  }

  /** Draw again what depends on more than the rows: captions, marks. */
  refresh(): void {
    this.render(true)
  }

  resizeTiles(px: number): void {
    const first = Math.floor(this.node.scrollTop / this.lineHeight()) * this.columns
    this.tilePx = px
    this.render(true)
    this.node.scrollTop = Math.floor(first / this.columns) * this.lineHeight()
  }

  private lineHeight(): number {
    return this.tilePx + CAPTION_PX + GAP_PX
  }

  private render(anew = false): void {
    const width = this.node.clientWidth
    if (!width) return
    if (anew) {
      this.columns = Math.max(1, Math.floor((width - GAP_PX) / (this.tilePx + GAP_PX)))
      this.sheet.style.height = `${Math.ceil(this.rows.length / this.columns) * this.lineHeight() + GAP_PX}px`
      for (const tile of this.tiles.values()) tile.remove()
      this.tiles.clear()
    }
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.lineHeight()) - BEYOND) * this.columns
    const lines = Math.ceil(this.node.clientHeight / this.lineHeight()) + 2 * BEYOND + 1
    const end = Math.min(this.rows.length, first + lines * this.columns)
    for (const [index, tile] of this.tiles)
      if (index < first || index >= end) {
        tile.remove()
        this.tiles.delete(index)
      }
    const seen: number[] = []
    for (let index = first; index < end; index++) {
      seen.push(this.rows[index])
      if (!this.tiles.has(index)) this.tiles.set(index, this.sheet.appendChild(this.tile(index)))
    }
    this.thumbnails.want(this.who, seen)
    this.announce()
  }

  private tile(index: number): HTMLElement {
    const row = this.rows[index]
    const caption = this.options.caption(row, index)
    const picture = element('img', { attributes: { alt: '', draggable: 'false' } })
    const written = element('span', { class: 'caption', text: caption })
    const tile = element(
      'div',
      {
        class: 'tile',
        title: caption,
        attributes: {
          id: `${this.who.replace(/\W/g, '')}-${index}`,
          role: 'option',
          'data-row': row,
          'aria-label': caption,
          'aria-setsize': this.rows.length,
          'aria-posinset': index + 1,
          'aria-selected': String(this.options.isMarked?.(row) ?? false),
        },
        on: {
          click: () => {
            this.current = index
            this.announce()
            this.options.onOpen(row)
          },
          pointerenter: () => this.options.onPoint?.(row),
        },
      },
      picture,
      written,
    )
    void this.options.name(row).then(() => {
      const text = this.options.caption(row, index)
      written.textContent = text
      tile.title = text
      tile.setAttribute('aria-label', text)
    })
    const [line, column] = [Math.floor(index / this.columns), index % this.columns]
    tile.style.width = `${this.tilePx}px`
    tile.style.height = `${this.tilePx + CAPTION_PX}px`
    tile.style.transform = `translate(${GAP_PX + column * (this.tilePx + GAP_PX)}px, ${GAP_PX + line * this.lineHeight()}px)`
    void this.thumbnails.url(row).then((url) => {
      if (url) picture.src = url
      else tile.classList.add('without')
    })
    return tile
  }

  private announce(): void {
    for (const [index, tile] of this.tiles) tile.classList.toggle('current', index === this.current)
    const tile = this.tiles.get(this.current)
    if (tile) this.node.setAttribute('aria-activedescendant', tile.id)
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const page = Math.max(1, Math.floor(this.node.clientHeight / this.lineHeight())) * this.columns
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -this.rows.length,
      End: this.rows.length,
    }
    if (event.key in steps) {
      this.current = Math.max(0, Math.min(this.rows.length - 1, this.current + steps[event.key]))
      const line = Math.floor(this.current / this.columns) * this.lineHeight()
      if (line < this.node.scrollTop) this.node.scrollTop = line
      else if (line + this.lineHeight() > this.node.scrollTop + this.node.clientHeight)
        this.node.scrollTop = line + this.lineHeight() + GAP_PX - this.node.clientHeight
      this.render()
      this.options.onPoint?.(this.rows[this.current])
    } else if (event.key === 'Enter') this.options.onOpen(this.rows[this.current])
    else if (event.key === ' ' && this.options.onMark) this.options.onMark(this.rows[this.current])
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}
