/** Short notices at the foot of the page: what was done, with a way back; what went wrong, until it is dismissed. */

import { ServerError } from '../client/server'
import { button, element } from '../dom'

const SHOWN_MS = 6000

let place: HTMLElement | undefined

/** Say `text`; `action` is offered beside it. */
export function notify(text: string, action?: { label: string; act: () => void }): void {
  show(text, 'notice', action)
}

/** Say what went wrong, in the words of the error. */
export function complain(error: unknown): void {
  const stale = error instanceof ServerError && error.code === 'order_unknown'
  const again = { label: 'Load anew', act: () => location.reload() }
  show(error instanceof Error ? error.message : String(error), 'notice wrong', stale ? again : undefined)
}

function show(text: string, className: string, action?: { label: string; act: () => void }): void {
  place ??= document.body.appendChild(element('div', { class: 'notices' }))
  const wrong = className.includes('wrong')
  const shown = element('div', { class: className, attributes: { role: wrong ? 'alert' : 'status' } })
  const close = () => shown.remove()
  shown.append(element('span', { text }))
  if (action)
    shown.append(
      button(action.label, () => {
        close()
        action.act()
      }),
    )
  shown.append(button('Dismiss', close, { icon: 'close' }))
  place.append(shown)
  while (place.childElementCount > 3) place.firstElementChild?.remove()
  if (!wrong) window.setTimeout(close, SHOWN_MS)
}
