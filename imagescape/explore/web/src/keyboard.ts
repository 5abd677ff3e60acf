/** Keys that work wherever the page is, unless somebody types a text. */

export interface Key {
  key: string
  /** What the list of keys says it does; the group it stands in. */
  does: string
  group: string
  /** Whether it means something now. */
  when?: () => boolean
  act: () => void
  /** How it is shown, if not as `key`. */
  shown?: string
}

export class Keyboard {
  readonly keys: Key[] = []

  constructor() {
    document.addEventListener('keydown', (event) => this.press(event))
  }

  add(...keys: Key[]): void {
    this.keys.push(...keys)
  }

  private press(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.altKey) return
    const chord = `${event.ctrlKey || event.metaKey ? 'Ctrl+' : ''}${event.key}`
    if (isTyping(event.target) && event.key !== 'Escape') return
    // Within a dialog only its own keys count.
    if (document.querySelector('dialog[open]')) return
    const found = this.keys.find((one) => one.key === chord && (one.when?.() ?? true))
    if (!found) return
    event.preventDefault()
    found.act()
  }
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  return target.matches('input:not([type=checkbox]):not([type=radio]), textarea, select') || target.isContentEditable
}
