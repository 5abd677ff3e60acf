/** The keys of the page. */

import { byId } from './dom'
import type { Explorer } from './explorer'
import type { Keyboard } from './keyboard'
import { showKeys } from './parts/dialogs'
import type { Find } from './parts/find'
import { complain } from './parts/notices'
import type { Panel } from './parts/panel'
import { cycleImages } from './parts/toolbox'
import { toggleTheme } from './theme'

const run = (work: () => Promise<void>) => () => void work().catch(complain)

/** Keys that mean the same on the map and in a review. */
export function addKeysOfAll(explorer: Explorer, keyboard: Keyboard, panel: Panel, find: Find): void {
  const { state } = explorer
  const group = 'Everywhere'
  const served = () => Boolean(explorer.client.server)
  const writable = () => explorer.writable
  const turn = () => state.set({ view: state.values.view === 'map' ? 'review' : 'map' })
  const undo = run(() => explorer.undo())
  const redo = run(() => explorer.redo())
  keyboard.add(
    { key: '/', does: 'Find', group, act: () => find.focus() },
    { key: '?', does: 'These keys', group, act: () => showKeys(keyboard) },
    { key: 'Escape', shown: 'Esc', does: 'Close, or clear the selection', group, act: () => escape(explorer, panel) },
    { key: 'd', does: 'Light or dark', group, act: toggleTheme },
    { key: 'g', does: 'Map or review', group, when: served, act: turn },
    { key: 'Ctrl+z', shown: 'Ctrl Z', does: 'Undo', group, when: writable, act: undo },
    { key: 'Ctrl+Z', shown: 'Ctrl Shift Z', does: 'Do again', group, when: writable, act: redo },
  )
}

/** Keys for the map and the panel beside it. */
export function addKeysOfMap(explorer: Explorer, keyboard: Keyboard, panel: Panel): void {
  const { state, map } = explorer
  const group = 'Map'
  const when = () => state.values.view === 'map'
  const goTo = () => map.goTo(map.points.place(state.values.focus))
  keyboard.add(
    { key: 'v', does: 'Move the map', group, when, act: () => state.set({ tool: 'move' }) },
    { key: 'l', does: 'Lasso', group, when, act: () => state.set({ tool: 'lasso' }) },
    { key: 'r', does: 'Rectangle', group, when, act: () => state.set({ tool: 'rectangle' }) },
    { key: 'i', does: 'Images or points', group, when, act: () => cycleImages(explorer) },
    { key: 'n', does: 'Next image', group, when, act: () => panel.step(1) },
    { key: 'p', does: 'Previous image', group, when, act: () => panel.step(-1) },
    { key: 'm', does: 'Show the image on the map', group, when, act: goTo },
    { key: 'w', does: 'Panel wide or narrow', group, when, act: () => panel.widen() },
    { key: '\\', does: 'Side open or shut', group, when, act: () => byId('side').toggleAttribute('hidden') },
  )
  // Arrows and the like move the map also where nothing has the focus.
  for (const key of ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', '+', '=', '-', '0'])
    keyboard.add({ key, does: '', group: '', when, act: () => map.press(key) })
  for (const [shown, does] of [
    ['← → ↑ ↓', 'Move'],
    ['+ −', 'Nearer, farther'],
    ['0', 'All of the map'],
    ['Enter', 'Open the image in the middle'],
    ['Shift drag', 'Lasso'],
  ])
    keyboard.add({ key: `shown ${shown}`, shown, does, group, act: () => {} })
}

/** Keys that write: for the image that is shown, or all that are selected or found. */
export function addKeysOfActs(explorer: Explorer, keyboard: Keyboard, panel: Panel): void {
  const group = 'Acts'
  const when = () => explorer.state.values.view === 'map' && explorer.writable && Boolean(panel.rows?.length)
  const mark = (mark: 'keep' | 'remove' | null) => run(() => panel.mark(panel.rows ?? [], mark))
  keyboard.add(
    { key: 't', does: 'Tag', group, when, act: run(() => panel.tag(panel.rows ?? [])) },
    { key: 'k', does: 'Mark to keep', group, when, act: mark('keep') },
    { key: 'x', does: 'Mark to remove', group, when, act: mark('remove') },
    { key: 'u', does: 'Take the mark away', group, when, act: mark(null) },
  )
}

/** Close what is open, from the last opened to the first. */
function escape(explorer: Explorer, panel: Panel): void {
  const { state } = explorer
  if (state.values.view === 'review') state.set({ view: 'map' })
  else if (state.values.panel === 'image' || state.values.panel === 'found') panel.close()
  else if (state.values.selection) state.set({ selection: null, panel: 'none' })
  else if (state.values.tool !== 'move') state.set({ tool: 'move' })
  else explorer.map.clearGuests()
}
