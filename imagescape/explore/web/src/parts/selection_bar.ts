/** What is selected, at the foot of the map, while the panel shows something else. */

import { button, counted, element, fill } from '../dom'
import type { Explorer } from '../explorer'

export function selectionBar(explorer: Explorer): HTMLElement {
  const node = element('div', {
    class: 'selection-bar',
    attributes: { hidden: true, role: 'region', 'aria-label': 'Selection' },
  })
  const write = () => {
    const { selection, panel } = explorer.state.values
    node.hidden = !selection || panel === 'selection'
    if (!selection) return
    fill(
      node,
      element('span', { text: `${counted(selection.rows.length, 'image')} selected` }),
      button('Show', () => explorer.state.set({ panel: 'selection' })),
      button('Clear', () => explorer.state.set({ selection: null })),
    )
  }
  explorer.state.on(['selection', 'panel'], write)
  return node
}
