/** The map: points or their density, images, names and highlights, moved by mouse, fingers and keys. */

import { element } from '../dom'
import type { Thumbnails } from '../thumbnails'
import { Camera, fitted, type View } from './camera'
import { densityPicture } from './density'
import { contains, widened, type Box, type Point } from './geometry'
import { attachGestures, type Tool } from './gestures'
import { Labels, type LabelTargets } from './labels'
import type { Named } from './label_layout'
import { NOTHING, Overlay, type Guest, type Highlights, type Shown } from './overlay'
import { MAX_STEP, Painter } from './painter'
import { Points } from './points'
import { cellSide, levelFor, ThumbnailLayout, wholeCells, type Frame, type Placed } from './thumbnail_layout'

export type ImagesShown = 'auto' | 'always' | 'never'

/** Points that are drawn in a frame of well under 50 ms, without and with a graphics card; more are shown as density. */
const DRAWN_POINTS = { software: 40_000, hardware: 400_000 }
const FINE_POINTS = 200_000 // of so many or more, density is told for every pixel, of fewer for every second one
const IMAGES_UP_TO = 60_000 // points in view, above which it is density alone
const BASE_PX = 1024
const PICK_PX = 14
const TRANSITION_MS = 900

export interface MapTargets extends LabelTargets {
  onPoint: (place: number, at: Point) => void
  onOpen: (place: number, add: boolean) => void
  /** What was drawn around, in coordinates of the map; `add`: to what is selected already. */
  onSelect: (polygon: Point[], add: boolean) => void
  onGuest: (guest: Guest) => void
  onSettle: (box: Box) => void
}

export class MapView {
  readonly node: HTMLElement
  readonly camera = new Camera()
  points = new Points(new Float32Array(0), new Float32Array(0))
  tool: Tool = 'move'
  imagesShown: ImagesShown = 'auto'
  /** Milliseconds that the last frames took, the newest last. */
  readonly frameTimes: number[] = []
  private readonly painter: Painter
  private readonly overlay: Overlay
  private readonly labels: Labels
  private readonly layout = new ThumbnailLayout()
  private marks: Highlights = NOTHING
  guests: Guest[] = []
  private shown: Shown[] = []
  private placed: { list: Placed[]; box: Box; frame: Frame } | undefined
  private outline: readonly Point[] = []
  private backdrops: { base?: Box; near?: { box: Box; scale: number } } = {}
  private transition: { view: View; start: number; done: () => void } | undefined
  private pending = 0
  private byKeys = false
  private readonly drawn: number

  constructor(
    private readonly thumbnails: Thumbnails,
    private readonly targets: MapTargets,
  ) {
    const canvas = element('canvas', { class: 'points' })
    this.painter = new Painter(canvas, () => location.reload())
    this.drawn = DRAWN_POINTS[this.painter.isSoftware ? 'software' : 'hardware']
    this.overlay = new Overlay(this.camera, thumbnails)
    this.labels = new Labels(targets)
    this.node = element(
      'div',
      {
        class: 'map',
        attributes: {
          role: 'application',
          tabindex: 0,
          'aria-label': 'Map of images',
          'aria-describedby': 'map-keys',
        },
        on: { keydown: (event) => this.key(event), blur: () => this.setByKeys(false) },
      },
      canvas,
      this.overlay.canvas,
      this.labels.node,
    )
    new ResizeObserver(() => this.resize()).observe(this.node)
    this.camera.onMove(() => this.draw())
    this.camera.onSettle(() => this.settle())
    thumbnails.onArrival(() => this.draw())
    attachGestures(this.node, this.camera, {
      tool: () => this.tool,
      onPoint: (at) => {
        this.setByKeys(false)
        if (at) targets.onPoint(this.placeAt(at), at)
        else targets.onPoint(-1, { x: 0, y: 0 })
      },
      onClick: (at, event) => {
        this.node.focus({ preventScroll: true })
        const cluster = this.labels.at(event.clientX, event.clientY)
        const guest = this.overlay.guestAt(at, this.guests)
        if (cluster !== undefined) targets.onClick(cluster)
        else if (guest) targets.onGuest(guest)
        else targets.onOpen(this.placeAt(at), event.ctrlKey || event.metaKey)
      },
      onDoubleClick: (at, event) => {
        const cluster = this.labels.at(event.clientX, event.clientY)
        if (cluster !== undefined) targets.onRename(cluster)
        else this.camera.fly(this.camera.zoomedTo(2.5, at))
      },
      onOutline: (outline) => {
        this.outline = outline
        this.draw()
      },
      onSelect: (outline, add) =>
        targets.onSelect(
          outline.map(({ x, y }) => this.camera.toMap(x, y)),
          add,
        ),
    })
  }

  /** Show the points of a map; `fit` shows all of it. */
  show(points: Points, fit = true): void {
    this.finishTransition()
    this.points = points
    this.painter.setPlaces(points.places)
    this.painter.setColors(points.colors)
    this.forget()
    if (fit) this.camera.enter(points.index.extent)
    else this.draw()
  }

  /** Let the points wander to where they lie on another map, which then is the one shown. */
  async moveTo(points: Points): Promise<void> {
    this.finishTransition()
    const before = this.points
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches
    if (before.length !== points.length || before.rows || points.rows || still) return this.show(points)
    const view = this.camera.view
    this.points = points
    points.paint(before.index.order.length ? this.shadesOf(before) : new Uint8Array(4 * points.length))
    this.painter.setPlaces(points.places, points.ordered(before.x, before.y))
    this.painter.setColors(points.colors)
    this.forget()
    await new Promise<void>((done) => {
      this.transition = { view, start: performance.now(), done }
      this.camera.enter(points.index.extent)
    })
  }

  /** Colours of the points, four numbers a place; alpha 0 hides. */
  paint(shades: Uint8Array): void {
    this.points.paint(shades)
    this.painter.setColors(this.points.colors)
    this.backdrops = {}
    this.layout.clear()
    this.placed = undefined
    this.draw()
    if (!this.transition) this.settle()
  }

  highlight(marks: Partial<Highlights>): void {
    this.marks = { ...this.marks, ...marks }
    this.draw()
  }

  setLabels(named: readonly Named[]): void {
    this.labels.set(named)
    this.draw()
  }

  setImagesShown(shown: ImagesShown): void {
    this.imagesShown = shown
    this.placed = undefined
    this.draw()
  }

  /** Show all of the map. */
  fit(): void {
    this.camera.fly(fitted(this.points.index.extent, this.camera.size))
  }

  /** Go to where a place is, near enough to see images. */
  goTo(place: number): void {
    const [x, y] = [this.points.x[place], this.points.y[place]]
    if (x !== x) return
    const { extent } = this.points.index
    const near = Math.sqrt(this.points.length) * 40
    const scale = Math.max(this.camera.view.scale, near / (extent.right - extent.left))
    this.camera.fly({ x, y, scale })
  }

  /** Bring a place into view, if it is not, without coming nearer. */
  reveal(place: number): void {
    const [x, y] = [this.points.x[place], this.points.y[place]]
    if (x !== x || place < 0) return
    // After the panel has taken its room.
    requestAnimationFrame(() => {
      const at = this.camera.toPage(x, y)
      const { width, height } = this.camera.size
      if (at.x < 30 || at.y < 30 || at.x > width - 30 || at.y > height - 30)
        this.camera.fly({ ...this.camera.view, x, y })
    })
  }

  /** Show these places whole. */
  goToAll(places: ArrayLike<number>): void {
    const box = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity }
    for (let i = 0; i < places.length; i++) {
      const [x, y] = [this.points.x[places[i]], this.points.y[places[i]]]
      if (x !== x) continue
      box.left = Math.min(box.left, x)
      box.right = Math.max(box.right, x)
      box.bottom = Math.min(box.bottom, y)
      box.top = Math.max(box.top, y)
    }
    if (box.left <= box.right) this.camera.fly(fitted(box, this.camera.size, 90))
  }

  /** Where the images are on the page now. */
  get images(): readonly Shown[] {
    return this.shown
  }

  draw(): void {
    this.pending ||= requestAnimationFrame((now) => {
      this.pending = 0
      this.paintFrame(now)
    })
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.node
    if (!width || !height) return
    const first = this.camera.size.width <= 1
    this.camera.resize({ width, height })
    this.paintFrame(performance.now()) // at once: a canvas that is stretched until the next frame flickers
    if (first) this.camera.enter(this.points.index.extent)
  }

  private paintFrame(now: number): void {
    const start = performance.now()
    const { size, view } = this.camera
    this.painter.clear(size)
    this.overlay.clear()
    if (this.transition) this.drawTransition(now)
    else this.drawPoints()
    const style = getComputedStyle(this.node)
    const color = (name: string) => style.getPropertyValue(`--${name}`).trim()
    this.shown = []
    if (!this.transition) {
      const frame = this.placeImages()
      if (frame && this.placed) {
        const side = cellSide(frame) * view.scale * 0.86
        this.shown = this.overlay.images(this.placed.list, frame, this.points, Math.min(side, 96), color('paper'))
      }
      this.overlay.highlights(this.marks, this.points, this.shown, {
        selected: color('ink'),
        neighbor: color('accent'),
        hit: color('hit'),
        focus: color('accent'),
        ink: color('ink'),
        paper: color('paper'),
      })
      this.overlay.guests(this.guests, color('accent'), color('paper'))
    }
    this.overlay.outline(this.outline, color('accent'))
    if (this.byKeys) this.overlay.reticle(color('ink'))
    this.labels.node.hidden = Boolean(this.transition)
    this.labels.draw(this.camera)
    this.frameTimes.push(performance.now() - start)
    if (this.frameTimes.length > 300) this.frameTimes.shift()
    if (this.transition) this.draw()
  }

  private drawPoints(): void {
    const { size, view } = this.camera
    const box = this.camera.box()
    const stretches = this.points.index.stretches(box)
    const count = stretches.reduce((sum, [start, end]) => sum + end - start, 0)
    if (count > this.drawn) {
      const near = this.backdrops.near
      const suits = near && contains(near.box, box) && view.scale < near.scale * 3 && view.scale > near.scale / 2
      if (!this.backdrops.base) this.makeBase()
      this.painter.drawBackdrop(suits ? 'near' : 'base', view, size)
    } else this.painter.drawPoints(stretches, view, size, this.dotPx())
  }

  private drawTransition(now: number): void {
    const { view, start, done } = this.transition as NonNullable<typeof this.transition>
    const t = Math.min(1, (now - start) / TRANSITION_MS)
    const share = t * t * (3 - 2 * t)
    const all = this.points.index.order.length
    const step = Math.min(MAX_STEP, Math.max(1, Math.ceil(all / this.drawn)))
    const transition = { view, share }
    this.painter.drawPoints([[0, all]], this.camera.view, this.camera.size, this.dotPx(), { step, transition })
    if (t < 1) return
    this.transition = undefined
    this.painter.setPlaces(this.points.places)
    done()
    this.draw()
    this.settle()
  }

  private finishTransition(): void {
    const done = this.transition?.done
    this.transition = undefined
    done?.()
  }

  /** How large points are: less than the space between them, so that they change with the zoom and not with the part. */
  private dotPx(): number {
    const { extent } = this.points.index
    const space =
      ((extent.right - extent.left) / Math.sqrt(this.points.index.order.length + 1)) * this.camera.view.scale
    return Math.min(11, Math.max(2.2, space * 0.62))
  }

  private settle(): void {
    const box = this.camera.box()
    this.targets.onSettle(box)
    const { points } = this
    const count = points.index.count(box)
    if (count <= this.drawn || this.transition) return
    const spotPx = count < FINE_POINTS ? 2 : 1
    const wide = widened(box, 0.25)
    const { width, height } = this.camera.size
    const picture = densityPicture(
      points,
      points.index.stretches(wide),
      wide,
      Math.round((width * 1.5) / spotPx),
      Math.round((height * 1.5) / spotPx),
    )
    this.painter.setBackdrop('near', picture)
    this.backdrops.near = { box: wide, scale: this.camera.view.scale }
    this.draw()
  }

  private makeBase(): void {
    const { points } = this
    const box = points.index.extent
    const all: [number, number][] = [[0, points.index.order.length]]
    this.painter.setBackdrop('base', densityPicture(points, all, box, BASE_PX, BASE_PX))
    this.backdrops.base = box
  }

  /** Choose the images for what is in view; anew only where what was chosen does not cover it. */
  private placeImages(): Frame | undefined {
    const box = this.camera.box()
    const { extent } = this.points.index
    const tooMany = this.imagesShown === 'auto' && this.points.index.count(box) > IMAGES_UP_TO
    if (this.imagesShown === 'never' || tooMany || !this.points.length) {
      this.placed = undefined
      this.thumbnails.want('map', [])
      return undefined
    }
    const level = levelFor(extent, this.camera.view.scale)
    const frame = this.placed?.frame.level === level ? this.placed.frame : { extent, level }
    if (this.placed?.frame === frame && contains(this.placed.box, box)) return frame
    const wide = wholeCells(frame, widened(box, 0.3))
    const places = this.points.index.inBox(wide).filter((place) => this.points.isBright(place))
    const cells = ((wide.right - wide.left) / cellSide(frame)) * ((wide.top - wide.bottom) / cellSide(frame))
    const { points } = this
    const few = places.length < cells / 3
    const list = this.layout.place(frame, wide, places, points.x, points.y, few, (place) => points.rank(place))
    this.placed = { list, box: wide, frame }
    const inView = list.filter(({ row }) => this.isIn(box, row))
    const others = list.filter(({ row }) => !this.isIn(box, row))
    this.thumbnails.want(
      'map',
      [...inView, ...others].map(({ row }) => this.points.row(row)),
    )
    return frame
  }

  private isIn(box: Box, place: number): boolean {
    const [x, y] = [this.points.x[place], this.points.y[place]]
    return x >= box.left && x <= box.right && y >= box.bottom && y <= box.top
  }

  /** The place under a point of the page: of the image there, or of the nearest point; -1 if there is none. */
  placeAt(at: Point): number {
    const image = this.shown.find(
      (one) => Math.abs(one.x - at.x) <= one.side / 2 && Math.abs(one.y - at.y) <= one.side / 2,
    )
    if (image) return image.place
    const { x, y } = this.camera.toMap(at.x, at.y)
    const radius = PICK_PX / this.camera.view.scale
    return this.points.index.nearest(x, y, radius, (place) => this.points.isVisible(place))
  }

  /** Show pictures that are not of the table where they belong. */
  addGuest(guest: Guest): void {
    this.guests.push(guest)
    this.draw()
  }

  clearGuests(): void {
    this.guests = []
    this.draw()
  }

  goToGuests(): void {
    if (this.guests.length === 1) {
      const { extent } = this.points.index
      const scale = Math.max(
        this.camera.view.scale,
        (Math.sqrt(this.points.length) * 40) / (extent.right - extent.left),
      )
      this.camera.fly({ x: this.guests[0].x, y: this.guests[0].y, scale })
    } else this.fit()
  }

  /** Move by a key; whether it is one that moves. `far`: by larger steps. */
  press(key: string, far = false): boolean {
    const step = far ? 200 : 60
    const moves: Record<string, () => void> = {
      ArrowLeft: () => this.camera.pan(step, 0),
      ArrowRight: () => this.camera.pan(-step, 0),
      ArrowUp: () => this.camera.pan(0, step),
      ArrowDown: () => this.camera.pan(0, -step),
      '+': () => this.camera.zoom(1.4),
      '=': () => this.camera.zoom(1.4),
      '-': () => this.camera.zoom(1 / 1.4),
      '0': () => this.fit(),
    }
    if (!(key in moves)) return false
    moves[key]()
    this.node.focus({ preventScroll: true })
    this.setByKeys(true)
    this.targets.onPoint(this.placeNear(this.middle), this.middle)
    return true
  }

  private get middle(): Point {
    return { x: this.camera.size.width / 2, y: this.camera.size.height / 2 }
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.node) return
    if (event.key === 'Enter' && this.byKeys) this.targets.onOpen(this.placeNear(this.middle), false)
    else if (!this.press(event.key, event.shiftKey)) return
    event.preventDefault()
    event.stopPropagation()
  }

  private placeNear(at: Point): number {
    const { x, y } = this.camera.toMap(at.x, at.y)
    return this.points.index.nearest(x, y, 120 / this.camera.view.scale, (place) => this.points.isVisible(place))
  }

  private setByKeys(byKeys: boolean): void {
    if (this.byKeys === byKeys) return
    this.byKeys = byKeys
    this.node.classList.toggle('by-keys', byKeys)
    this.draw()
  }

  private shadesOf(points: Points): Uint8Array {
    const shades = new Uint8Array(4 * points.length)
    const { order } = points.index
    for (let i = 0; i < order.length; i++)
      for (let part = 0; part < 4; part++) shades[4 * order[i] + part] = points.colors[4 * i + part]
    return shades
  }

  private forget(): void {
    this.backdrops = {}
    this.layout.clear()
    this.placed = undefined
    this.shown = []
  }
}
