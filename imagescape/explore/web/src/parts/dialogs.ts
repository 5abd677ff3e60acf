/** Questions and lists that stand before the page until they are answered or closed. */

import { button, element } from '../dom'
import type { Keyboard } from '../keyboard'

/** Ask for a line of text; null if nothing is to be done. */
export function ask(
  title: string,
  { value = '', label = 'Name', act = 'Save', hint = '', choices = [] as readonly string[] } = {},
): Promise<string | null> {
  return new Promise((resolve) => {
    let answer: string | null = null
    const input = element('input', {
      attributes: { type: 'text', value, list: choices.length ? 'choices' : null, autocomplete: 'off' },
    })
    const dialog = element('dialog', { attributes: { 'aria-label': title }, on: { close: () => done() } })
    const form = element(
      'form',
      {
        attributes: { method: 'dialog' },
        on: { submit: () => (answer = input.value) },
      },
      element('h2', { text: title }),
      element('label', {}, element('span', { class: 'soft', text: label }), input),
      hint ? element('p', { class: 'soft', text: hint }) : null,
      element(
        'div',
        { class: 'row' },
        button('Cancel', () => dialog.close()),
        element('button', { class: 'main', text: act, attributes: { type: 'submit' } }),
      ),
    )
    if (choices.length)
      form.append(
        element(
          'datalist',
          { attributes: { id: 'choices' } },
          ...choices.map((one) => element('option', { attributes: { value: one } })),
        ),
      )
    const done = () => {
      dialog.remove()
      resolve(answer)
    }
    dialog.append(form)
    document.body.append(dialog)
    dialog.showModal()
    input.select()
  })
}

/** List the keys. */
export function showKeys(keyboard: Keyboard): void {
  const dialog = element('dialog', {
    class: 'all-keys',
    attributes: { 'aria-label': 'Keys' },
    on: { close: () => dialog.remove() },
  })
  dialog.append(element('h2', { text: 'Keys' }))
  for (const group of new Set(keyboard.keys.map((key) => key.group).filter(Boolean))) {
    const lines = new Map<string, string[]>()
    for (const { does, key, shown, group: other } of keyboard.keys)
      if (other === group) lines.set(does, [...(lines.get(does) ?? []), shown ?? key])
    dialog.append(
      element('h3', { text: group }),
      element(
        'dl',
        { class: 'keys' },
        ...[...lines].map(([does, keys]) =>
          element(
            'div',
            {},
            element('dd', { text: does }),
            element('dt', {}, ...keys.map((key) => element('kbd', { text: key }))),
          ),
        ),
      ),
    )
  }
  dialog.append(
    element(
      'div',
      { class: 'row' },
      button('Close', () => dialog.close(), { class: 'main' }),
    ),
  )
  document.body.append(dialog)
  dialog.showModal()
}

/** Show an image as large as the page. */
export function showLarge(url: string, name: string): void {
  const dialog = element(
    'dialog',
    {
      class: 'lightbox',
      attributes: { 'aria-label': name },
      on: { click: () => dialog.close(), close: () => dialog.remove() },
    },
    element('img', { attributes: { src: url, alt: name } }),
    button('Close', () => dialog.close(), { icon: 'close' }),
  )
  document.body.append(dialog)
  dialog.showModal()
}
