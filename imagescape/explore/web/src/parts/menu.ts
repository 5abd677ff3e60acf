/** A button that opens a list of things to do. */

import { button, element, type IconName } from '../dom'

export function menu(
  label: string,
  entries: readonly { label: string; act: () => void }[],
  options: { icon?: IconName } = {},
): HTMLElement {
  const list = element('div', { attributes: { role: 'menu', hidden: true, 'aria-label': label } })
  const opener = button(label, () => toggle(Boolean(list.hidden)), options)
  opener.setAttribute('aria-haspopup', 'menu')
  opener.setAttribute('aria-expanded', 'false')
  const node = element('div', { class: 'menu' }, opener, list)
  const toggle = (open: boolean) => {
    list.hidden = !open
    opener.setAttribute('aria-expanded', String(open))
    if (open) (list.firstElementChild as HTMLElement | null)?.focus()
  }
  for (const entry of entries) {
    const line = button(entry.label, () => {
      toggle(false)
      entry.act()
    })
    line.setAttribute('role', 'menuitem')
    list.append(line)
  }
  node.addEventListener('focusout', (event) => {
    if (!node.contains(event.relatedTarget as Node | null)) toggle(false)
  })
  node.addEventListener('keydown', (event) => {
    const lines = [...list.children] as HTMLElement[]
    const at = lines.indexOf(document.activeElement as HTMLElement)
    if (event.key === 'Escape' && !list.hidden) {
      toggle(false)
      opener.focus()
    } else if (event.key === 'ArrowDown') lines[(at + 1) % lines.length].focus()
    else if (event.key === 'ArrowUp') lines[(at - 1 + lines.length) % lines.length].focus()
    else return
    event.preventDefault()
    event.stopPropagation()
  })
  return node
}
