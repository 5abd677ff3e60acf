/** What a person does on the page, and what follows from it. */

import { busy } from './busy'
import type { Client, Decision, Details, ExportFormat, Hit, Label, Mark, TagCount } from './client/client'
import { Names } from './client/names'
import { textOf, type Column } from './columns/column'
import { Filters } from './columns/filters'
import { shadesOf } from './columns/shades'
import { byId, counted } from './dom'
import type { Box, Point } from './map/geometry'
import { MapView } from './map/map_view'
import { TiledSource, WholeSource, type PointSource } from './map/point_source'
import { complain, notify } from './parts/notices'
import { RowSet } from './row_set'
import { State, type Found, type Selection } from './state'
import { currentTheme } from './theme'
import { Thumbnails } from './thumbnails'

const NEIGHBORS = 10
const HITS = 100
const SELECTION_EVERY_MS = 1000
const FIRST_COLORS = ['label_name', 'label', 'group', 'folder'] // as in the plots

export class Explorer {
  readonly filters = new Filters()
  readonly state = new State(this.filters)
  readonly thumbnails: Thumbnails
  readonly names: Names
  readonly map: MapView
  readonly source: PointSource
  labels: Label[] = []
  tags: TagCount[]
  version: number
  undoText: string
  private readonly repaintListeners: (() => void)[] = []
  private painted: Found | Selection | null = null
  private asked = 0
  private told = 0

  constructor(readonly client: Client) {
    const { about } = client
    this.thumbnails = new Thumbnails((rows) => client.thumbnails(rows))
    this.names = new Names((rows) => client.names(rows))
    this.source = about.tiled && client.server ? new TiledSource(client.server) : new WholeSource(client)
    this.tags = about.tags
    this.version = about.version
    this.undoText = about.undo?.text ?? ''
    this.map = new MapView(this.thumbnails, {
      onPoint: (place, at) => this.point(place, at),
      onOpen: (place, add) => this.clicked(place, add),
      onSelect: (polygon, add) => void this.selectWithin(polygon, add).catch(complain),
      onGuest: ({ name, hits }) => this.show({ title: `Where ${name} belongs`, hits }),
      onSettle: (box) => this.settled(box),
      onClick: (id) => void this.selectCluster(id).catch(complain),
      onRename: (id) => this.onRename(id),
    })
    this.filters.onChange(() => void this.repaint().catch(complain))
    this.state.on(['colorBy'], () => void this.repaint().catch(complain))
    this.state.on(['selection', 'found', 'panel'], () => {
      if (this.standingOut() !== this.painted) this.paint()
    })
    this.state.on(['map', 'clustering'], () => void this.relabel().catch(complain))
    this.state.on(['focus', 'neighbors', 'found', 'selection', 'panel', 'hovered'], () => this.highlight())
    this.state.on(['selection'], () => this.tellSelection())
  }

  /** Set by the page: what to do when a cluster is to be renamed, and when the pointer is over an image. */
  onRename: (cluster: number) => void = () => {}
  onHover: (row: number, at: Point) => void = () => {}
  /** Set by the page: an act was undone or done again. */
  onTakenBack: () => void = () => {}

  /** Call `listener` when colours, tags or names may be others. */
  onRepaint(listener: () => void): void {
    this.repaintListeners.push(listener)
  }

  get writable(): boolean {
    return Boolean(this.client.server) && !this.client.about.read_only
  }

  /** Show the map, colours and names that say most at first, or those that were asked for. */
  async start(asked: { map?: string; colorBy?: string } = {}): Promise<void> {
    const { maps, columns, clusterings } = this.client.about
    const map = maps.find((one) => one.name === asked.map) ?? maps[maps.length - 1]
    const drawable = columns.filter(({ kind }) => kind === 'classes' || kind === 'amounts')
    const clustering = clusterings[clusterings.length - 1]?.column ?? ''
    const preferred = [asked.colorBy, ...FIRST_COLORS, clustering].find((name) =>
      drawable.some((one) => one.name === name),
    )
    const colorBy = preferred ?? drawable.find((one) => one.kind === 'classes' && !one.role)?.name ?? ''
    const points = await this.source.points(map.name, [colorBy, clustering].filter(Boolean))
    this.map.show(points)
    this.state.set({ map: map.name, colorBy, clustering })
  }

  // -- what is shown --------------------------------------------------------------------------------------------------

  async chooseMap(name: string): Promise<void> {
    const turn = ++this.asked
    const points = await busy(this.source.points(name, this.columnsNeeded()))
    if (turn !== this.asked) return
    this.map.setLabels([])
    this.map.clearGuests() // they belong on one map only
    const moved = this.map.moveTo(points)
    this.state.set({ map: name })
    await this.repaint()
    await moved
    this.highlight()
  }

  /** The column that is coloured by, once its values are here. */
  get colorColumn(): Column | undefined {
    return this.source.column(this.state.values.colorBy)
  }

  column(name: string): Column | undefined {
    return this.source.column(name)
  }

  private columnsNeeded(): string[] {
    const { colorBy, clustering } = this.state.values
    return [...new Set([colorBy, clustering, ...this.filters.columns])].filter(Boolean)
  }

  /** Colours anew: of another column, filter or selection. */
  async repaint(): Promise<void> {
    const turn = ++this.asked
    const { map } = this.state.values
    const missing = this.columnsNeeded().some((name) => !this.source.column(name))
    if (missing || this.client.about.tiled) {
      const points = await this.source.points(
        map,
        this.columnsNeeded(),
        this.client.about.tiled ? this.map.camera.box() : undefined,
      )
      if (turn !== this.asked) return
      if (this.client.about.tiled) this.map.show(points, false)
    }
    this.paint()
    for (const listener of this.repaintListeners) listener()
  }

  /** Colours anew, of values that are here. */
  paint(): void {
    const { points } = this.map
    const passing = this.filters.mask(points.length, (name) => this.source.column(name), points.rows)
    this.map.paint(
      shadesOf(points.length, {
        column: this.colorColumn ?? null,
        theme: currentTheme(),
        passing,
        bright: this.brightRows(),
        rows: points.rows,
      }),
    )
  }

  /** How many of the points pass the filters. */
  visibleCount(): number {
    const { points } = this.map
    let count = 0
    for (let place = 0; place < points.length; place++)
      if (points.isVisible(place) && points.x[place] === points.x[place]) count++
    return count
  }

  /** What was found or selected, beside which all else turns faint. */
  private standingOut(): Found | Selection | null {
    const { panel, found, selection } = this.state.values
    return panel === 'found' ? found : selection
  }

  private brightRows(): RowSet | undefined {
    const bright = this.standingOut()
    this.painted = bright
    if (!bright) return undefined
    return new RowSet('hits' in bright ? bright.hits.map((hit) => hit.row) : bright.rows, this.client.about.rows)
  }

  async relabel(): Promise<void> {
    const { map, clustering } = this.state.values
    this.labels = clustering ? await this.client.labels(map, clustering) : []
    if (map !== this.state.values.map || clustering !== this.state.values.clustering) return
    this.map.setLabels(
      this.labels.map(({ code, name, count, x, y, level }) => ({ id: code, name, size: count, x, y, level })),
    )
  }

  private highlight(): void {
    const { focus, hovered, neighbors, found, selection, panel } = this.state.values
    const { points } = this.map
    const places = (rows: readonly number[]) => rows.map((row) => points.place(row))
    this.map.highlight({
      focus: panel === 'image' ? points.place(focus) : -1,
      hovered: points.place(hovered),
      neighbors: panel === 'image' ? places(neighbors.map((hit) => hit.row)) : [],
      hits: panel === 'found' && found && found.hits.length <= 1000 ? places(found.hits.map((hit) => hit.row)) : [],
      selected: selection && selection.rows.length <= 300 ? places([...selection.rows]) : [],
    })
  }

  private async settled(box: Box): Promise<void> {
    if (!this.client.about.tiled || !this.map.points.rows) return
    const turn = ++this.asked
    try {
      const points = await this.source.points(this.state.values.map, this.columnsNeeded(), box)
      if (turn !== this.asked || sameRows(points.rows, this.map.points.rows)) return
      this.map.show(points, false)
      this.paint()
      this.highlight()
    } catch (error) {
      complain(error)
    }
  }

  private point(place: number, at: Point): void {
    const row = place < 0 ? -1 : this.map.points.row(place)
    this.state.set({ hovered: row })
    this.onHover(row, at)
  }

  private clicked(place: number, add: boolean): void {
    if (place < 0) return
    this.onHover(-1, { x: 0, y: 0 }) // the panel says more
    const row = this.map.points.row(place)
    if (!add) return this.open(row)
    const rows = new Set(this.state.values.selection?.rows)
    if (!rows.delete(row)) rows.add(row)
    this.select(Uint32Array.from(rows).sort(), 'Selection')
  }

  // -- looking --------------------------------------------------------------------------------------------------------

  open(row: number): void {
    this.state.set({ focus: row, panel: 'image', neighbors: [] })
    this.map.reveal(this.map.points.place(row))
  }

  /** All that the panel shows of an image. */
  async look(
    row: number,
    features: string,
  ): Promise<{ details: Details; hits: readonly Hit[]; near: number[]; reason: string }> {
    const { map } = this.state.values
    const [details, alike, near] = await Promise.all([
      this.client.details(row),
      features ? this.client.neighbors(row, features, NEIGHBORS) : { hits: [], reason: '' },
      this.nearOnMap(row, map),
    ])
    return { details, hits: alike.hits, near, reason: alike.reason }
  }

  private async nearOnMap(row: number, map: string): Promise<number[]> {
    const { points } = this.map
    const place = points.place(row)
    if (points.rows && this.client.server)
      return (await this.client.server.mapNeighbors(row, map, NEIGHBORS)).hits.map((hit) => hit.row)
    const [x, y] = [points.x[place], points.y[place]]
    if (x !== x) return []
    return points.index
      .nearestRows(x, y, NEIGHBORS + 1)
      .filter((other) => other !== row)
      .slice(0, NEIGHBORS)
  }

  /** What the columns in use say of an image, for a card; empty where its values are not here. */
  linesOf(row: number): string[] {
    const place = this.map.points.place(row)
    if (place < 0) return []
    const { colorBy, clustering } = this.state.values
    const lines: string[] = []
    for (const name of new Set([clustering, colorBy])) {
      const column = name ? this.source.column(name) : undefined
      const text = column && textOf(column, place)
      if (text) lines.push(name === clustering && name.startsWith('cluster_') ? text : `${name}: ${text}`)
    }
    return lines
  }

  // -- selecting ------------------------------------------------------------------------------------------------------

  select(rows: Uint32Array, title: string, polygon: readonly Point[] = []): void {
    if (!rows.length) return this.state.set({ selection: null, panel: 'none' })
    this.state.set({ selection: { rows, title, polygon }, panel: 'selection' })
    byId('said').textContent = `${counted(rows.length, 'image')} selected`
  }

  async selectWithin(polygon: readonly Point[], add: boolean): Promise<void> {
    const rows = await this.source.inside(this.map.points, this.state.values.map, polygon, this.filters)
    const before = add ? (this.state.values.selection?.rows ?? []) : []
    const all = before.length ? Uint32Array.from(new Set([...before, ...rows])).sort() : rows
    if (!all.length) return notify('There are no images in there.')
    this.select(all, 'Selection', before.length ? [] : polygon)
  }

  /** Select all images of a class of a column. */
  async selectClass(column: string, code: number): Promise<void> {
    const known = this.source.column(column)
    if (known?.kind !== 'classes') return
    const value = known.values[code]
    const rows =
      this.client.about.tiled && this.client.server
        ? await this.client.server.where(`${quoted(column)} = ${literal(value)}`)
        : rowsWhere(known.codes, code)
    this.select(rows, known.names[code])
  }

  async selectCluster(code: number): Promise<void> {
    await this.selectClass(this.state.values.clustering, code)
  }

  async selectTag(tag: string): Promise<void> {
    const rows = await this.client.server?.where(`array_has(tags, ${literal(tag)})`)
    if (rows) this.select(rows, tag)
  }

  async selectMarked(mark: Mark): Promise<void> {
    const rows = await this.client.server?.where(`mark = ${literal(mark)}`)
    if (rows?.length) this.select(rows, mark === 'keep' ? 'Marked to keep' : 'Marked to remove')
    else notify('No image has that mark.')
  }

  /** Tell Python what is selected, at most once a second. */
  private tellSelection(): void {
    const { server, about } = this.client
    if (!server || this.told) return
    this.told = window.setTimeout(() => {
      this.told = 0
      const rows = this.state.values.selection?.rows ?? []
      if (rows.length <= about.limits.ids) void server.select(rows).catch(() => {}) // told again with the next one
    }, SELECTION_EVERY_MS)
  }

  // -- finding --------------------------------------------------------------------------------------------------------

  show(found: Found): void {
    if (!found.hits.length) return notify(`Nothing was found: ${found.title}`)
    this.state.set({ found, panel: 'found' })
    byId('said').textContent = `${counted(found.hits.length, 'image')} found`
  }

  async findNamed(text: string): Promise<void> {
    this.show({ title: `“${text}” in names`, hits: asHits(await busy(this.client.named(text))) })
  }

  async findWhere(condition: string): Promise<void> {
    const rows = this.client.server && (await busy(this.client.server.where(condition)))
    if (rows) this.show({ title: condition, hits: asHits(rows) })
  }

  async findText(features: string, text: string): Promise<void> {
    const hits = this.client.server && (await busy(this.client.server.byText(features, text, HITS)))
    if (hits) this.show({ title: `Pictures of “${text}”`, hits })
  }

  async findImage(image: Blob, name: string): Promise<void> {
    const { features } = this.client.about
    const usable = [...features].reverse().find((one) => one.by_image)
    if (!usable)
      throw new Error(
        features[0]?.by_image_not || 'There are no features to compare pictures by: imagescape embed NAME.scape',
      )
    const hits = this.client.server && (await busy(this.client.server.byImage(usable.name, image, HITS)))
    const about = `Nearest by ${usable.name} first`
    if (hits) this.show({ title: `Like ${name}`, hits, query: URL.createObjectURL(image), about })
  }

  /** Put pictures on the map where it says that they belong. */
  async place(files: readonly File[]): Promise<void> {
    const { server } = this.client
    if (!server) return
    const { map } = this.state.values
    let placed = 0
    for (const file of files) {
      try {
        const { x, y, hits } = await busy(server.place(map, file))
        this.map.addGuest({ x, y, name: file.name, picture: await createImageBitmap(file), hits })
        placed++
        const found = { title: `Where ${file.name} belongs`, hits, query: URL.createObjectURL(file) }
        if (files.length === 1) this.show({ ...found, about: 'Nearest on the map first' })
      } catch (error) {
        complain(new Error(`${file.name}: ${error instanceof Error ? error.message : String(error)}`))
      }
    }
    if (placed) this.map.goToGuests()
    if (placed > 1) notify(`${counted(placed, 'picture')} put on the map; nothing is stored.`)
  }

  // -- acting ---------------------------------------------------------------------------------------------------------

  async act(decision: Decision, say = true): Promise<void> {
    const { server } = this.client
    if (!server) return
    const { act, version, undo } = await server.act(decision)
    this.version = version
    this.undoText = undo?.text ?? ''
    await this.changed(decision)
    if (say && act) notify(sentence(act.text), { label: 'Undo', act: () => void this.undo().catch(complain) })
  }

  async undo(): Promise<void> {
    await this.takeBack('undo')
  }

  async redo(): Promise<void> {
    await this.takeBack('redo')
  }

  private async takeBack(way: 'undo' | 'redo'): Promise<void> {
    const { server } = this.client
    if (!server || !this.writable) return
    const { act, version, undo } = await server[way]()
    this.version = version
    this.undoText = undo?.text ?? ''
    if (!act) return notify(way === 'undo' ? 'There is nothing to undo.' : 'There is nothing to do again.')
    notify(`${way === 'undo' ? 'Undone' : 'Done again'}: ${act.text}`)
    await this.changed()
    this.onTakenBack()
  }

  /** Load what an act may have changed; all of it after an undo. */
  private async changed(decision?: Decision): Promise<void> {
    const { server, about } = this.client
    const tags = !decision || decision.kind === 'tag' || decision.kind === 'untag'
    if (server && tags) this.tags = await server.tags()
    const written =
      decision && { tag: 'tags', untag: 'tags', mark: 'mark', note: 'note', set: '', rename: '' }[decision.kind]
    // The first of its kind makes a column, which then can be coloured by.
    if (server && written && !about.columns.some((one) => one.name === written)) about.columns = await server.columns()
    const columns = new Set<string>()
    if (!decision || decision.kind === 'mark') columns.add('mark')
    if (!decision || decision.kind === 'set') for (const { name, role } of about.columns) if (!role) columns.add(name)
    if (!decision || decision.kind === 'rename') for (const { column } of about.clusterings) columns.add(column)
    for (const name of columns) this.source.forget(name)
    if (!decision || decision.kind === 'rename') await this.relabel()
    await this.repaint()
  }

  async export(rows: Uint32Array, format: ExportFormat): Promise<void> {
    await busy(this.client.export(rows, format))
    notify(`Exporting ${counted(rows.length, 'image')}`)
  }
}

function asHits(rows: Uint32Array): Hit[] {
  return Array.from(rows, (row) => ({ row, distance: NaN }))
}

function rowsWhere(codes: Int32Array, code: number): Uint32Array {
  const rows: number[] = []
  for (let row = 0; row < codes.length; row++) if (codes[row] === code) rows.push(row)
  return Uint32Array.from(rows)
}

function sameRows(a: Uint32Array | undefined, b: Uint32Array | undefined): boolean {
  return a?.length === b?.length && a?.[0] === b?.[0] && a?.[a.length - 1] === b?.[(b?.length ?? 0) - 1]
}

/** A name in the language of conditions. */
export function quoted(column: string): string {
  return `\`${column}\``
}

/** A value in the language of conditions. */
export function literal(value: unknown): string {
  return typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value)
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
