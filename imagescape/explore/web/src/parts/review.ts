/** Queues of images to judge, one key a decision. */

import type { Candidate, Decision, Item, Mark, QueueInfo, ServerActions } from '../client/client'
import { button, element, fill, readable } from '../dom'
import type { Keyboard } from '../keyboard'
import { written } from './image_panel'
import { complain } from './notices'

const AT_ONCE = 100

export interface ReviewOptions {
  node: HTMLElement
  server: ServerActions
  keyboard: Keyboard
  isShown: () => boolean
  writable: boolean
  imageUrl: (row: number) => string | null
  /** Write a decision to the table, in a way that can be taken back. */
  act: (decision: Decision) => Promise<void>
  onShow: (row: number) => void
}

export class Review {
  private queues: QueueInfo[] = []
  private queue: QueueInfo | undefined
  /** Those to be decided when the queue was opened, the worst first. */
  private items: Item[] = []
  private open = 0
  private at = 0
  private current = 0
  private readonly marks = new Map<number, Mark | null>()
  private readonly list = element('nav', { class: 'queues', attributes: { 'aria-label': 'Queues' } })
  private readonly bench = element('div', { class: 'bench', attributes: { 'aria-live': 'polite' } })

  constructor(private readonly options: ReviewOptions) {
    options.node.append(this.list, this.bench)
    this.addKeys()
  }

  /** Ask for the queues again, and show what is still to be decided. */
  async refresh(): Promise<void> {
    this.queues = await this.options.server.queues()
    const same = this.queues.find((one) => one.name === this.queue?.name)
    this.queue = same ?? this.queues.find((one) => one.open) ?? this.queues[0]
    await this.load()
  }

  private async choose(queue: QueueInfo): Promise<void> {
    this.queue = queue
    await this.load()
  }

  private async load(): Promise<void> {
    this.items = []
    this.marks.clear()
    this.at = 0
    if (this.queue) {
      const found = await this.options.server.queue(this.queue.name, AT_ONCE)
      this.items = found.items
      this.open = found.count
      this.queue.open = found.count
    }
    for (const item of this.items) for (const { row, mark } of item.images) this.marks.set(row, mark)
    this.writeQueues()
    this.write()
  }

  private writeQueues(): void {
    fill(
      this.list,
      ...this.queues.map((queue) =>
        element(
          'button',
          {
            title: queue.text,
            attributes: { type: 'button', 'aria-pressed': String(queue === this.queue), 'data-queue': queue.name },
            on: { click: () => void this.choose(queue).catch(complain) },
          },
          element('span', { text: queue.title }),
          element('b', { text: readable(queue.open) }),
        ),
      ),
    )
  }

  private get item(): Item | undefined {
    return this.items[this.at]
  }

  private write(): void {
    const { queue, item } = this
    if (!queue)
      return this.say(
        'There is nothing to review yet',
        'Duplicates, outliers, poor pictures and doubtful labels are queued here once the collection was audited: imagescape audit NAME.scape',
      )
    if (!item) {
      const undecided = this.items.some((one) => !this.isDecided(one))
      if (undecided || this.open > this.items.length)
        return this.say(`${queue.title}: that was the last of these`, 'Some are not decided yet.', {
          label: 'Go on with those',
          act: () => void this.load().catch(complain),
        })
      return this.say(`${queue.title}: all ${readable(queue.count)} are decided`, 'Each decision can be undone.')
    }
    this.current = Math.max(
      0,
      item.images.findIndex((one) => one.suggested === 'keep'),
    )
    fill(this.bench, this.head(queue, item), this.candidates(item), this.foot(queue, item))
  }

  private say(title: string, text: string, action?: { label: string; act: () => void }): void {
    fill(
      this.bench,
      element(
        'div',
        { class: 'empty' },
        element('h2', { text: title }),
        element('p', { text }),
        action ? button(action.label, action.act, { class: 'main' }) : null,
      ),
    )
  }

  private head(queue: QueueInfo, item: Item): HTMLElement {
    const done = queue.count - this.open + this.items.filter((one) => this.isDecided(one)).length
    return element(
      'div',
      { class: 'bench-head' },
      element('h2', { text: queue.title }),
      element('span', { class: 'soft', text: item.images.length > 1 ? `${item.images.length} images` : '' }),
      element('span', { class: 'spacer' }),
      element('progress', { attributes: { max: queue.count, value: done, 'aria-label': 'Decided' } }),
      element('span', { class: 'soft', text: `${readable(done)} of ${readable(queue.count)} decided` }),
    )
  }

  private candidates(item: Item): HTMLElement {
    const single = item.images.length === 1
    return element(
      'div',
      { class: single ? 'candidates single' : 'candidates' },
      ...item.images.map((candidate, i) => this.candidate(candidate, i)),
    )
  }

  private candidate(candidate: Candidate, index: number): HTMLElement {
    const { row, name } = candidate
    const image = element('img', { attributes: { alt: name } })
    const url = this.options.imageUrl(row)
    if (url) image.src = url
    const mark = this.marks.get(row) ?? null
    const facts = element('dl', { class: 'facts' })
    const fact = (title: string, value: string) =>
      facts.append(element('dt', { text: title }), element('dd', { text: value }))
    fact('size', `${candidate.width} × ${candidate.height}, ${bytes(candidate.bytes)}`)
    if (candidate.score !== null) fact('score', readable(candidate.score))
    if (candidate.label !== undefined) fact('label', written(candidate.label))
    if (candidate.suggested_label !== undefined) fact('suggested', written(candidate.suggested_label))
    return element(
      'article',
      {
        class: `candidate ${mark ?? ''} ${index === this.current ? 'current' : ''}`,
        attributes: { 'data-row': row, 'data-id': candidate.id },
        on: { click: () => this.look(index) },
      },
      element('div', { class: 'picture' }, image),
      element('h2', { text: name }),
      element('span', { class: 'verdict', text: verdict(mark, candidate.suggested) }),
      candidate.reason ? element('p', { class: 'soft', text: candidate.reason }) : null,
      facts,
    )
  }

  private foot(queue: QueueInfo, item: Item): HTMLElement {
    const { writable } = this.options
    const group = item.images.length > 1
    return element(
      'div',
      { class: 'bench-foot' },
      button('Previous', () => this.step(-1), { key: 'p' }),
      button('Next', () => this.step(1), { key: 'n' }),
      button('On the map', () => this.showOnMap(), { key: 'm' }),
      element('span', { class: 'spacer' }),
      writable && group ? button('Keep all', () => void this.keepAll(), { key: 'a' }) : null,
      writable && item.label_column
        ? button('Take the suggested label', () => void this.takeLabel(), { key: 's', class: 'main' })
        : null,
      writable
        ? button(queue.kind === 'labels' ? 'The label is right' : 'Keep', () => void this.markCurrent('keep'), {
            key: 'k',
          })
        : null,
      writable ? button('Remove', () => void this.markCurrent('remove'), { key: 'x' }) : null,
      writable && group
        ? button('Keep this one only', () => void this.keepOnly(), { key: 'Enter', class: 'main' })
        : null,
    )
  }

  private look(index: number): void {
    if (!this.item) return
    this.current = (index + this.item.images.length) % this.item.images.length
    const nodes = [...this.bench.querySelectorAll('.candidate')]
    nodes.forEach((node, i) => node.classList.toggle('current', i === this.current))
    nodes[this.current]?.scrollIntoView({ block: 'nearest' })
  }

  private step(by: number): void {
    this.at = Math.max(0, Math.min(this.items.length, this.at + by))
    this.write()
  }

  private isDecided(item: Item): boolean {
    const undecided = item.images.filter(({ row }) => !this.marks.get(row)).length
    return undecided === 0 || (item.images.length > 1 && undecided === 1)
  }

  /** Mark the image that is looked at; an item of one image is done with that. */
  private async markCurrent(mark: Mark): Promise<void> {
    const item = this.item
    if (!item) return
    const single = item.images.length === 1
    if (await this.mark([item.images[this.current].row], mark)) single ? this.step(1) : this.look(this.current + 1)
  }

  private async keepAll(): Promise<void> {
    const rows = this.item?.images.map(({ row }) => row) ?? []
    if (await this.mark(rows, 'keep')) this.step(1)
  }

  private async keepOnly(): Promise<void> {
    const item = this.item
    if (!item || item.images.length < 2) return
    const kept = item.images[this.current].row
    const others = item.images.map(({ row }) => row).filter((row) => row !== kept)
    if ((await this.mark(others, 'remove')) && (await this.mark([kept], 'keep'))) this.step(1)
  }

  private async takeLabel(): Promise<void> {
    const image = this.item?.images[this.current]
    const column = this.item?.label_column
    if (!image || !column || image.suggested_label === undefined) return
    try {
      await this.options.act({ kind: 'set', rows: [image.row], column, value: image.suggested_label })
    } catch (error) {
      return complain(error)
    }
    image.label = image.suggested_label
    await this.markCurrent('keep')
  }

  private async mark(rows: number[], mark: Mark): Promise<boolean> {
    try {
      await this.options.act({ kind: 'mark', rows, mark })
    } catch (error) {
      complain(error)
      return false
    }
    for (const row of rows) {
      this.marks.set(row, mark)
      const node = this.bench.querySelector(`.candidate[data-row="${row}"]`)
      node?.classList.remove('keep', 'remove')
      node?.classList.add(mark)
      const said = node?.querySelector('.verdict')
      if (said) said.textContent = verdict(mark, null)
    }
    return true
  }

  private showOnMap(): void {
    if (this.item) this.options.onShow(this.item.images[this.current].row)
  }

  private addKeys(): void {
    const shown = () => this.options.isShown() && Boolean(this.item)
    const writing = () => shown() && this.options.writable
    const group = 'Review'
    this.options.keyboard.add(
      { key: 'k', does: 'Keep the image', group, when: writing, act: () => void this.markCurrent('keep') },
      { key: 'x', does: 'Remove the image', group, when: writing, act: () => void this.markCurrent('remove') },
      { key: 'Enter', does: 'Keep this one of the group only', group, when: writing, act: () => void this.keepOnly() },
      { key: 'a', does: 'Keep all of the group', group, when: writing, act: () => void this.keepAll() },
      { key: 's', does: 'Take the suggested label', group, when: writing, act: () => void this.takeLabel() },
      { key: 'n', does: 'Next', group, when: shown, act: () => this.step(1) },
      { key: 'p', does: 'Previous', group, when: shown, act: () => this.step(-1) },
      {
        key: 'ArrowRight',
        shown: '→',
        does: 'Next image of the group',
        group,
        when: shown,
        act: () => this.look(this.current + 1),
      },
      {
        key: 'ArrowLeft',
        shown: '←',
        does: 'Previous image of the group',
        group,
        when: shown,
        act: () => this.look(this.current - 1),
      },
      { key: 'm', does: 'Show the image on the map', group, when: shown, act: () => this.showOnMap() },
    )
  }
}

function verdict(mark: Mark | null, suggested: Mark | null): string {
  if (mark) return mark === 'keep' ? 'kept' : 'to be removed'
  return suggested ? `suggested: ${suggested}` : 'undecided'
}

function bytes(count: number): string {
  return count >= 1e6
    ? `${(count / 1e6).toFixed(1)} MB`
    : count >= 1000
      ? `${Math.round(count / 1000)} kB`
      : `${count} B`
}
