/** The search box: file names, what a text means, classes, conditions, pictures that are pasted or chosen. */

import { button, element, icon } from '../dom'

export interface Suggestion {
  title: string
  /** What kind of thing it is, shown beside it. */
  kind: string
  act: () => void
}

export interface FindOptions {
  node: HTMLElement
  placeholder: string
  suggest: (text: string) => Suggestion[]
  /** Undefined where no picture can be looked for. */
  onImage?: (image: Blob, name: string) => void
}

export class Find {
  private readonly input: HTMLInputElement
  private readonly list: HTMLUListElement
  private suggestions: Suggestion[] = []
  private chosen = 0

  constructor(private readonly options: FindOptions) {
    this.input = element('input', {
      attributes: {
        type: 'search',
        placeholder: options.placeholder,
        'aria-label': 'Find images',
        role: 'combobox',
        'aria-expanded': 'false',
        'aria-controls': 'suggestions',
        'aria-autocomplete': 'list',
        'aria-keyshortcuts': '/',
        autocomplete: 'off',
        spellcheck: 'false',
      },
      on: {
        input: () => this.suggest(),
        focus: () => this.suggest(),
        blur: () => this.close(),
        keydown: (event) => this.key(event),
      },
    })
    this.list = element('ul', {
      class: 'suggestions',
      attributes: { id: 'suggestions', role: 'listbox', 'aria-label': 'Ways to find it', hidden: true },
    })
    const box = element('div', { class: 'search' }, icon('search'), this.input)
    if (options.onImage) {
      const file = element('input', {
        attributes: { type: 'file', accept: 'image/*', hidden: true, 'aria-hidden': 'true', tabindex: -1 },
        on: {
          change: () => {
            if (file.files?.[0]) options.onImage?.(file.files[0], file.files[0].name)
            file.value = ''
          },
        },
      })
      box.append(
        file,
        button('Find images like a picture of yours', () => file.click(), { icon: 'image' }),
      )
      document.addEventListener('paste', (event) => this.paste(event))
    }
    options.node.append(box, this.list)
  }

  focus(): void {
    this.input.focus()
    this.input.select()
  }

  private suggest(): void {
    const text = this.input.value.trim()
    this.suggestions = text ? this.options.suggest(text) : []
    this.chosen = 0
    this.list.replaceChildren(
      ...this.suggestions.map((one, index) =>
        element(
          'li',
          {
            attributes: { role: 'option', id: `suggestion-${index}` },
            // Not on click: the box loses the focus before, and closes the list.
            on: {
              pointerdown: (event) => {
                event.preventDefault()
                this.take(index)
              },
              pointerenter: () => this.choose(index),
            },
          },
          element('span', { text: one.title }),
          element('small', { class: 'soft', text: one.kind }),
        ),
      ),
    )
    this.list.hidden = !this.suggestions.length
    this.input.setAttribute('aria-expanded', String(!this.list.hidden))
    this.choose(0)
  }

  private choose(index: number): void {
    this.chosen = index
    this.list.querySelectorAll('li').forEach((line, i) => line.setAttribute('aria-selected', String(i === index)))
    this.input.setAttribute('aria-activedescendant', this.suggestions.length ? `suggestion-${index}` : '')
  }

  private take(index: number): void {
    const taken = this.suggestions[index]
    if (!taken) return
    this.close()
    this.input.blur()
    taken.act()
  }

  private key(event: KeyboardEvent): void {
    const count = this.suggestions.length
    if (event.key === 'ArrowDown' && count) this.choose((this.chosen + 1) % count)
    else if (event.key === 'ArrowUp' && count) this.choose((this.chosen - 1 + count) % count)
    else if (event.key === 'Enter') this.take(this.chosen)
    else if (event.key === 'Escape') {
      this.input.value = ''
      this.close()
      this.input.blur()
    } else return
    event.preventDefault()
    event.stopPropagation()
  }

  private close(): void {
    this.list.hidden = true
    this.input.setAttribute('aria-expanded', 'false')
  }

  private paste(event: ClipboardEvent): void {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith('image/'))
    if (!file) return
    event.preventDefault()
    this.options.onImage?.(file, 'pasted picture')
  }
}
