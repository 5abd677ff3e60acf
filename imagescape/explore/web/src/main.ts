/** The page, put together. */

import type { Client } from './client/client'
import { ServerClient } from './client/server'
import { StaticClient } from './client/static'
import { button, byId, counted, element, fill } from './dom'
import { Explorer } from './explorer'
import { Keyboard } from './keyboard'
import { addKeysOfActs, addKeysOfAll, addKeysOfMap } from './page_keys'
import { ask, showKeys } from './parts/dialogs'
import { watchDrops } from './parts/drop_zone'
import { Find } from './parts/find'
import { HoverCard } from './parts/hover_card'
import { complain, notify } from './parts/notices'
import { Panel } from './parts/panel'
import { Review } from './parts/review'
import { selectionBar } from './parts/selection_bar'
import { Side } from './parts/side'
import { suggestionsFor } from './parts/suggestions'
import { toolbox } from './parts/toolbox'
import { toggleTheme, watchTheme } from './theme'

const LOOK_EVERY_MS = 15_000

async function open(): Promise<void> {
  const stage = byId('stage')
  const wait = stage.appendChild(
    element('div', { class: 'wait', text: 'Loading the map …', attributes: { role: 'status' } }),
  )
  watchTheme(() => explorer?.paint())
  let explorer: Explorer | undefined
  const kind = document.querySelector<HTMLMetaElement>('meta[name=imagescape]')?.content
  const client: Client = kind === 'static' ? await StaticClient.open() : await ServerClient.open()
  document.title = `${client.about.name} – imagescape`
  byId('title').textContent = client.about.name
  byId('count').textContent = counted(client.about.rows, 'image')
  if (!client.about.maps.some((map) => map.count)) {
    wait.textContent = 'This collection has no map of two dimensions yet. Make one: imagescape map NAME.scape'
    return
  }
  explorer = new Explorer(client)
  Object.assign(window, { imagescape: explorer }) // for the console, and for tests
  assemble(explorer, stage)
  const asked = new URLSearchParams(location.hash.slice(1))
  await explorer.start({ map: asked.get('map') ?? undefined, colorBy: asked.get('color') ?? undefined })
  wait.remove()
  keepAddress(explorer)
  document.body.dataset.ready = 'true'
  performance.mark('imagescape-ready')
}

function assemble(explorer: Explorer, stage: HTMLElement): void {
  const { client, state } = explorer
  const keyboard = new Keyboard()
  const panel = new Panel(explorer)
  const card = new HoverCard()
  const rename = (column: string, code: number) => void renameCluster(explorer, column, code).catch(complain)
  explorer.onRename = (code) => explorer.writable && rename(state.values.clustering, code)
  explorer.onHover = (row, at) => {
    explorer.map.node.classList.toggle('over', row >= 0)
    if (row < 0) return card.show(undefined, at)
    const name = explorer.names.peek(row)
    const lines = explorer.linesOf(row)
    card.show({ row, picture: explorer.thumbnails.url(row), title: name ?? '…', lines }, at)
    if (name === undefined) void explorer.names.of(row).then((known) => card.rename(row, known))
  }
  if (innerWidth < 900) byId('side').hidden = true // it would lie over the map
  stage.append(explorer.map.node, toolbox(explorer), selectionBar(explorer), card.node)
  new Side(byId('side'), explorer, { rename })
  const find = new Find({
    node: byId('find'),
    placeholder: client.about.features.some((one) => one.by_text)
      ? 'Find by words, names, conditions'
      : 'Find by name, class, condition',
    suggest: (text) => suggestionsFor(explorer, text),
    onImage: client.about.features.some((one) => one.by_image)
      ? (image, name) => void explorer.findImage(image, name).catch(complain)
      : undefined,
  })
  addKeysOfAll(explorer, keyboard, panel, find)
  addKeysOfMap(explorer, keyboard, panel)
  addKeysOfActs(explorer, keyboard, panel)
  const review = assembleViews(explorer, keyboard)
  explorer.onRepaint(() => void panel.refresh())
  explorer.onTakenBack = () => state.values.view === 'review' && void review?.refresh().catch(complain)
  assembleTools(explorer, keyboard)
  assembleDrops(explorer)
  if (client.server) watchTable(explorer)
  state.on(['view'], () => {
    if (state.values.view === 'review') void review?.refresh().catch(complain)
    else explorer.map.node.focus({ preventScroll: true })
  })
}

/** The map and the review, and the tabs between them. */
function assembleViews(explorer: Explorer, keyboard: Keyboard): Review | undefined {
  const { client, state } = explorer
  if (!client.server) return undefined
  const review = new Review({
    node: byId('review'),
    server: client.server,
    keyboard,
    isShown: () => state.values.view === 'review',
    writable: explorer.writable,
    imageUrl: (row) => client.imageUrl(row),
    act: (decision) => explorer.act(decision, false),
    onShow: (row) => {
      state.set({ view: 'map' })
      explorer.open(row)
      explorer.map.goTo(explorer.map.points.place(row))
    },
  })
  const tabs = (['map', 'review'] as const).map((view) =>
    element('button', {
      text: view === 'map' ? 'Map' : 'Review',
      attributes: {
        type: 'button',
        role: 'tab',
        'data-view': view,
        'aria-controls': view === 'map' ? 'stage' : 'review',
      },
      on: { click: () => state.set({ view }) },
    }),
  )
  byId('views').append(...tabs)
  const show = () => {
    const { view } = state.values
    for (const tab of tabs) tab.setAttribute('aria-selected', String(tab.dataset.view === view))
    byId('stage').hidden = view !== 'map'
    document.body.dataset.view = view
    byId('review').hidden = view !== 'review'
    byId('panel').hidden = view !== 'map' || state.values.panel === 'none'
  }
  state.on(['view'], show)
  show()
  return review
}

function assembleTools(explorer: Explorer, keyboard: Keyboard): void {
  const undo = button('Undo', () => void explorer.undo().catch(complain), { icon: 'undo', key: 'Ctrl+Z' })
  const write = () => {
    undo.disabled = !explorer.undoText
    undo.title = explorer.undoText ? `Undo: ${explorer.undoText} (Ctrl+Z)` : 'Nothing to undo'
  }
  explorer.onRepaint(write)
  fill(
    byId('tools'),
    explorer.writable ? undo : null,
    button('Side', () => byId('side').toggleAttribute('hidden'), { icon: 'legend', key: '\\' }),
    button('Light or dark', toggleTheme, { icon: 'moon', key: 'd' }),
    button('Keys', () => showKeys(keyboard), { icon: 'help', key: '?' }),
  )
  write()
}

function assembleDrops(explorer: Explorer): void {
  const { client } = explorer
  watchDrops(() => {
    const map = client.about.maps.find((one) => one.name === explorer.state.values.map)
    const canFind = client.server && client.about.features.some((one) => one.by_image)
    return [
      ...(canFind
        ? [
            {
              title: 'Find images like it',
              hint: 'compared by the collection’s own encoder',
              icon: 'search' as const,
              act: (files: File[]) => void explorer.findImage(files[0], files[0].name).catch(complain),
            },
          ]
        : []),
      ...(client.server && map?.places
        ? [
            {
              title: 'Show where it belongs',
              hint: 'one or more, put on the map and not stored',
              icon: 'pin' as const,
              act: (files: File[]) => void explorer.place(files).catch(complain),
            },
          ]
        : []),
    ]
  })
}

async function renameCluster(explorer: Explorer, columnName: string, code: number): Promise<void> {
  const of = explorer.client.about.clusterings.find((one) => one.column === columnName)
  const column = explorer.column(columnName)
  if (!of || column?.kind !== 'classes') return
  const value = column.values[code]
  const name = await ask(`Name of cluster ${String(value)}`, {
    value: column.names[code],
    hint: 'Names stand beside the numbers of clusters and follow their images. Leave it empty for no name.',
  })
  if (name !== null)
    await explorer.act({ kind: 'rename', clustering: of.name, cluster: Number(value), name: name.trim() })
}

/** Notice when another program writes to the table. */
function watchTable(explorer: Explorer): void {
  const { server, about } = explorer.client
  let told = false
  window.setInterval(() => {
    if (document.hidden || told || !server) return
    void server
      .state()
      .then(({ version, order }) => {
        if (version <= explorer.version && order === about.order) return
        told = true
        notify('The collection was changed by another program.', { label: 'Load anew', act: () => location.reload() })
      })
      .catch(() => {}) // a server that is away is told of when something is wanted from it
  }, LOOK_EVERY_MS)
}

/** Keep what is shown in the address, so that it can be kept and sent. */
function keepAddress(explorer: Explorer): void {
  explorer.state.on(['map', 'colorBy'], () => {
    const { map, colorBy } = explorer.state.values
    history.replaceState(null, '', `#${new URLSearchParams({ map, color: colorBy })}`)
  })
}

open().catch((error: unknown) => {
  document.querySelector('.wait')?.remove()
  complain(error)
})
