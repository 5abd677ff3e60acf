/** The tools of the map: what a drag does, images or points, nearer and farther. */

import { button, element } from '../dom'
import type { Explorer } from '../explorer'
import type { Tool } from '../map/gestures'
import type { ImagesShown } from '../map/map_view'

const TOOLS: readonly { tool: Tool; label: string; icon: 'hand' | 'lasso' | 'rectangle'; key: string }[] = [
  { tool: 'move', label: 'Move the map', icon: 'hand', key: 'v' },
  { tool: 'lasso', label: 'Select with a lasso', icon: 'lasso', key: 'l' },
  { tool: 'rectangle', label: 'Select with a rectangle', icon: 'rectangle', key: 'r' },
]
const IMAGES: readonly ImagesShown[] = ['auto', 'always', 'never']
const IMAGES_TEXT: Record<ImagesShown, string> = {
  auto: 'Images where there is room',
  always: 'Images always',
  never: 'Points only',
}

export function toolbox(explorer: Explorer): HTMLElement {
  const tools = TOOLS.map(({ tool, label, icon, key }) => {
    const made = button(label, () => explorer.state.set({ tool }), { icon, key })
    made.dataset.tool = tool
    return made
  })
  const images = button(IMAGES_TEXT.auto, () => cycleImages(explorer), { icon: 'image', key: 'i' })
  images.dataset.tool = 'images'
  images.setAttribute('aria-pressed', 'true')
  const show = () => {
    const { tool } = explorer.state.values
    for (const made of tools) made.setAttribute('aria-pressed', String(made.dataset.tool === tool))
    explorer.map.tool = tool
    explorer.map.node.classList.toggle('drawing-tool', tool !== 'move')
  }
  explorer.state.on(['tool'], show)
  show()
  return element(
    'div',
    {
      class: 'toolbox',
      attributes: { role: 'toolbar', 'aria-label': 'Tools of the map', 'aria-orientation': 'vertical' },
    },
    ...tools,
    element('hr'),
    images,
    element('hr'),
    button('Nearer', () => explorer.map.camera.zoom(1.6), { icon: 'plus', key: '+' }),
    button('Farther', () => explorer.map.camera.zoom(1 / 1.6), { icon: 'minus', key: '-' }),
    button('All of the map', () => explorer.map.fit(), { icon: 'fit', key: '0' }),
  )
}

/** Images where there is room, always, never. */
export function cycleImages(explorer: Explorer): void {
  const next = IMAGES[(IMAGES.indexOf(explorer.map.imagesShown) + 1) % IMAGES.length]
  explorer.map.setImagesShown(next)
  const made = document.querySelector<HTMLElement>('[data-tool="images"]')
  made?.setAttribute('aria-pressed', String(next !== 'never'))
  made?.setAttribute('aria-label', IMAGES_TEXT[next])
  if (made) made.title = `${IMAGES_TEXT[next]} (i)`
}
