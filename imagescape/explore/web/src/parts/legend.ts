/** What the colours mean; and since each line can be switched off, a filter. */

import type { Amounts, Classes, Column } from '../columns/column'
import type { Condition, Filters } from '../columns/filters'
import { amountColor, classColor, css, NONE, type Theme } from '../columns/palette'
import { button, element, fill, readable } from '../dom'

const MOST_LINES = 500
const BINS = 48

export interface LegendOptions {
  theme: Theme
  filters: Filters
  /** Select all images of a class. */
  onSelect?: (code: number) => void
  onRename?: (code: number) => void
}

/** The lines of a column. */
export function legend(column: Column, options: LegendOptions): HTMLElement {
  const node = element('div', {
    class: 'legend',
    attributes: { role: 'group', 'aria-label': `Legend of ${column.name}` },
  })
  if (column.kind === 'classes') classLines(node, column, options)
  else if (column.kind === 'amounts') amountScale(node, column, options)
  else
    node.append(
      element('p', { class: 'soft', text: 'Every image has a text of its own here: there is no colour for it.' }),
    )
  return node
}

/** The name of a class on the page. */
export function classTitle(column: Classes, code: number): string {
  return code < 0 ? 'none' : column.names[code]
}

function classLines(node: HTMLElement, column: Classes, options: LegendOptions): void {
  const { filters } = options
  const nulls = column.rows - column.counts.reduce((sum, count) => sum + count, 0)
  const bySize = [...column.names.keys()].sort((a, b) => column.counts[b] - column.counts[a])
  const codes = [...(column.names.length > 24 ? bySize : column.names.keys()), ...(nulls > 0 ? [-1] : [])]
  const hidden = () => {
    const condition = filters.get(column.name)
    return condition?.kind === 'without' ? condition.classes : new Set<number>()
  }
  const hide = (classes: ReadonlySet<number>) =>
    filters.set(column.name, classes.size ? { kind: 'without', classes } : undefined)
  const toggle = (code: number, alone: boolean) => {
    const out = new Set(hidden())
    if (alone) {
      const isAlone = !out.has(code) && out.size === codes.length - 1
      return hide(new Set(isAlone ? [] : codes.filter((other) => other !== code)))
    }
    if (out.has(code)) out.delete(code)
    else out.add(code)
    hide(out)
  }
  if (codes.length > 1)
    node.append(
      element(
        'div',
        { class: 'all' },
        button('All', () => hide(new Set())),
        button('None', () => hide(new Set(codes))),
      ),
    )
  const list = element('div', { class: 'list' })
  for (const code of codes.slice(0, MOST_LINES)) list.append(classLine(column, code, options, hidden(), toggle, nulls))
  node.append(list)
  if (codes.length > MOST_LINES)
    node.append(element('p', { class: 'soft', text: `and ${readable(codes.length - MOST_LINES)} smaller ones` }))
}

function classLine(
  column: Classes,
  code: number,
  options: LegendOptions,
  hidden: ReadonlySet<number>,
  toggle: (code: number, alone: boolean) => void,
  nulls: number,
): HTMLElement {
  const name = classTitle(column, code)
  const swatch = element('i', { class: 'swatch' })
  swatch.style.backgroundColor = css(code < 0 ? NONE[options.theme] : classColor(column.colors[code]))
  const toggles = element(
    'button',
    {
      class: 'class',
      title: `${name}\nClick to hide or show, Shift-click for only these.`,
      attributes: { type: 'button', 'aria-pressed': String(!hidden.has(code)), 'data-code': code },
      on: { click: (event) => toggle(code, event.shiftKey) },
    },
    swatch,
    element('span', { text: name }),
    element('b', { text: readable(code < 0 ? nulls : column.counts[code]) }),
  )
  if (code < 0) return element('div', { class: 'line' }, toggles)
  const edits = element(
    'div',
    { class: 'edits' },
    options.onSelect && button(`Select ${name}`, () => options.onSelect?.(code), { icon: 'grid' }),
    options.onRename && button(`Rename ${name}`, () => options.onRename?.(code), { icon: 'edit' }),
  )
  return element('div', { class: 'line' }, toggles, edits)
}

function amountScale(node: HTMLElement, column: Amounts, options: LegendOptions): void {
  const { filters } = options
  const condition = filters.get(column.name)
  const range = condition?.kind === 'between' ? condition : null
  const canvas = element('canvas', {
    attributes: { role: 'img', 'aria-label': `How many images have how much ${column.name}` },
  })
  drawHistogram(canvas, column, options.theme)
  const field = (label: string, value: number | undefined, end: number) =>
    element('input', {
      attributes: {
        type: 'number',
        step: 'any',
        'aria-label': `${label} ${column.name}`,
        value: value === end ? null : value,
        placeholder: readable(end),
      },
      on: { change: () => apply() },
    })
  const [low, high] = [field('Lowest', range?.low, column.min), field('Highest', range?.high, column.max)]
  const apply = () => {
    const [from, to] = [
      low.value === '' ? column.min : Number(low.value),
      high.value === '' ? column.max : Number(high.value),
    ]
    const all = from <= column.min && to >= column.max
    filters.set(column.name, all ? undefined : { kind: 'between', low: from, high: to })
  }
  fill(
    node,
    canvas,
    element(
      'div',
      { class: 'ends' },
      element('span', { text: readable(column.low) }),
      element('span', { text: readable(column.high) }),
    ),
    element('div', { class: 'range' }, low, high),
  )
}

function drawHistogram(canvas: HTMLCanvasElement, column: Amounts, theme: Theme): void {
  const counts = new Float64Array(BINS)
  const scale = column.high > column.low ? BINS / (column.high - column.low) : 0
  for (const value of column.values)
    if (Number.isFinite(value)) counts[Math.min(BINS - 1, Math.max(0, Math.floor((value - column.low) * scale)))]++
  const most = Math.max(1, ...counts)
  const [width, height] = [BINS * 9, 92]
  canvas.width = width
  canvas.height = height
  const pen = canvas.getContext('2d') as CanvasRenderingContext2D
  counts.forEach((count, bin) => {
    pen.fillStyle = css(amountColor(bin / (BINS - 1), theme))
    pen.fillRect(bin * 9, height - 8, 9, 8)
    const tall = count ? Math.max(3, Math.sqrt(count / most) * (height - 14)) : 0
    pen.fillRect(bin * 9 + 1, height - 11 - tall, 7, tall)
  })
}

/** A condition in words; `column` is what it is on. */
export function conditionText(name: string, condition: Condition, column?: Column): string {
  if (condition.kind === 'between') return `${name}: ${readable(condition.low)} to ${readable(condition.high)}`
  if (condition.kind === 'rows') return `${name} (${readable(condition.rows.size)})`
  if (column?.kind !== 'classes') return name
  const shown = column.names.filter((_, code) => !condition.classes.has(code))
  if (shown.length <= 3) return `${name}: ${shown.join(', ') || (condition.classes.has(-1) ? 'nothing' : 'none')}`
  return `${name}: all but ${condition.classes.size}`
}
