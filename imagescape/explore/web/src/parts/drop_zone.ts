/** Where files are dropped: to find images like them, or to see where they belong on the map. */

import { element, icon, type IconName } from '../dom'

export interface DropTarget {
  title: string
  hint: string
  icon: IconName
  act: (files: File[]) => void
}

/** Show the targets while files are dragged over the page. `targets` is asked each time. */
export function watchDrops(targets: () => DropTarget[]): void {
  let shown: HTMLElement | null = null
  const hide = () => {
    shown?.remove()
    shown = null
  }
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false
  document.addEventListener('dragenter', (event) => {
    if (!hasFiles(event) || shown || !targets().length) return
    event.preventDefault()
    shown = element('div', { class: 'drop' }, ...targets().map((target) => zone(target, hide)))
    document.body.append(shown)
  })
  document.addEventListener('dragover', (event) => {
    if (hasFiles(event)) event.preventDefault() // else the browser would leave the page for the file
  })
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) hide()
  })
  document.addEventListener('drop', (event) => {
    if (!hasFiles(event)) return
    event.preventDefault()
    hide()
  })
}

function zone(target: DropTarget, hide: () => void): HTMLElement {
  const node = element(
    'div',
    {
      attributes: { 'data-drop': target.icon },
      on: {
        dragenter: () => node.classList.add('over'),
        dragleave: () => node.classList.remove('over'),
        drop: (event) => {
          event.preventDefault()
          event.stopPropagation()
          const files = [...(event.dataTransfer?.files ?? [])]
          hide()
          if (files.length) target.act(files)
        },
      },
    },
    icon(target.icon),
    element('h2', { text: target.title }),
    element('span', { class: 'soft', text: target.hint }),
  )
  return node
}
