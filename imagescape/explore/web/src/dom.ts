/** Elements of the page. Text is always text: nothing here takes markup. */

type Child = Node | string | null | undefined | false

interface Options {
  class?: string
  text?: string
  title?: string
  attributes?: Record<string, string | number | boolean | null | undefined>
  on?: { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void }
}

/** Make an element. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  options: Options = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag)
  if (options.class) made.className = options.class
  if (options.text !== undefined) made.textContent = options.text
  if (options.title) made.title = options.title
  setAttributes(made, options.attributes ?? {})
  for (const [name, listener] of Object.entries(options.on ?? {}))
    made.addEventListener(name, listener as EventListener)
  made.append(...children.filter((child): child is Node | string => Boolean(child)))
  return made
}

export function setAttributes(node: Element, attributes: NonNullable<Options['attributes']>): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) node.removeAttribute(name)
    else node.setAttribute(name, value === true ? '' : String(value))
  }
}

/** A button that says what it does: `label` is read out, and shown unless there is an icon. */
export function button(
  label: string,
  act: (event: MouseEvent) => void,
  { icon: shape, class: className = '', key }: { icon?: IconName; class?: string; key?: string } = {},
): HTMLButtonElement {
  const made = element('button', {
    class: className || (shape ? 'icon' : ''),
    title: key ? `${label} (${key})` : shape ? label : '',
    attributes: { type: 'button', 'aria-label': shape ? label : null, 'aria-keyshortcuts': key },
    on: { click: act },
  })
  made.append(shape ? icon(shape) : label)
  return made
}

const SHAPES = {
  close: 'M5 5l10 10M15 5L5 15',
  search: 'M9 3.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11M13 13l4 4',
  hand: 'M10 2.5v15M2.5 10h15M10 2.5l-2 2M10 2.5l2 2M10 17.5l-2-2M10 17.5l2-2M2.5 10l2-2M2.5 10l2 2M17.5 10l-2-2M17.5 10l-2 2',
  lasso: 'M10 3c4.500 0 7.500 2 7.500 5s-3 5-7.500 5s-7.500-2-7.500-5s3-5 7.500-5M5 12c-1 1.500-.5 3 1 3s2 1 1 3',
  rectangle:
    'M3.500 5.500v-2h2M8.500 3.500h3M14.500 3.500h2v2M16.500 8.500v3M16.500 14.500v2h-2M11.500 16.500h-3M5.500 16.500h-2v-2M3.500 11.500v-3',
  image: 'M3 4h14v12H3zM3 13l4-4l4 4l2-2l4 4M13 7.500h.01',
  sun: 'M10 6.500a3.500 3.500 0 1 0 0 7a3.500 3.500 0 0 0 0-7M10 2v2M10 16v2M2 10h2M16 10h2M4.300 4.300l1.400 1.400M14.300 14.300l1.400 1.400M4.300 15.700l1.400-1.400M14.300 5.700l1.400-1.400',
  moon: 'M16 12A6.500 6.500 0 0 1 8 4a6.500 6.500 0 1 0 8 8',
  help: 'M7.500 7.500a2.500 2.500 0 1 1 3.500 2.300c-.7.3-1 .8-1 1.700M10 14.500h.01',
  undo: 'M4 8h8a4 4 0 0 1 0 8H8M4 8l3-3M4 8l3 3',
  plus: 'M10 4v12M4 10h12',
  minus: 'M4 10h12',
  fit: 'M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4',
  download: 'M10 3v9M6 9l4 4l4-4M4 16.500h12',
  filter: 'M3 4h14l-5.500 6.500V16l-3-1.500v-4z',
  pin: 'M10 17.500s5.500-5.500 5.500-9.500a5.500 5.500 0 0 0-11 0c0 4 5.500 9.500 5.500 9.500M10 6.500a1.500 1.500 0 1 0 0 3a1.500 1.500 0 0 0 0-3',
  edit: 'M4 16l1-4l8-8l3 3l-8 8zM11.500 5.500l3 3',
  check: 'M4 10.500l4 4l8-9',
  grid: 'M3.500 3.500h5v5h-5zM11.500 3.500h5v5h-5zM3.500 11.500h5v5h-5zM11.500 11.500h5v5h-5z',
  panel: 'M3 4h14v12H3zM12 4v12',
  legend: 'M3 4h14v12H3zM8 4v12',
  next: 'M7.500 4l6 6l-6 6',
  previous: 'M12.500 4l-6 6l6 6',
} as const
export type IconName = keyof typeof SHAPES

/** A drawing of 20 by 20 pixels, of strokes in the colour of the text. */
export function icon(name: IconName): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(space, 'svg')
  setAttributes(svg, { viewBox: '0 0 20 20', 'aria-hidden': 'true', class: 'drawing' })
  const path = document.createElementNS(space, 'path')
  path.setAttribute('d', SHAPES[name])
  svg.append(path)
  return svg
}

/** Replace what a node holds. */
export function fill(node: Element, ...children: Child[]): void {
  node.replaceChildren(...children.filter((child): child is Node | string => Boolean(child)))
}

/** The element of the page's frame with an id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id)
  if (!found) throw new Error(`the page has no #${id}`)
  return found as T
}

/** Numbers as people read them: thousands apart, as many places as say something. */
export function readable(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en')
  const size = Math.abs(value)
  return size >= 1000 || size < 1e-4 ? value.toPrecision(4) : String(Number(value.toPrecision(4)))
}

/** "1 image", "2,000 images". */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${readable(count)} ${count === 1 ? one : many}`
}
