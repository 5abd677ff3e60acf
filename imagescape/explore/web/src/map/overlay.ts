/** What lies over the points: images, rings around what is highlighted, the outline of a selection. */

import type { Thumbnails } from '../thumbnails'
import type { Camera } from './camera'
import type { Point } from './geometry'
import type { Points } from './points'
import { seatOf, type Frame, type Placed } from './thumbnail_layout'

/** Places in `Points` that stand out. */
export interface Highlights {
  focus: number
  hovered: number
  neighbors: readonly number[]
  hits: readonly number[]
  selected: readonly number[]
}

export const NOTHING: Highlights = { focus: -1, hovered: -1, neighbors: [], hits: [], selected: [] }

/** An image on the page: its place in `Points` and the square it is in. */
export interface Shown {
  place: number
  x: number
  y: number
  side: number
}

/** A picture that is not of the table, where it belongs on the map, with the images beside it. */
export interface Guest extends Point {
  name: string
  picture: ImageBitmap
  hits: readonly { row: number; distance: number }[]
}

const GUEST_PX = 76
const MOST_RINGS = 3000

export class Overlay {
  readonly canvas = document.createElement('canvas')
  private readonly pen: CanvasRenderingContext2D
  private ratio = 1

  constructor(
    private readonly camera: Camera,
    private readonly thumbnails: Thumbnails,
  ) {
    this.canvas.className = 'overlay'
    this.pen = this.canvas.getContext('2d') as CanvasRenderingContext2D
  }

  clear(): void {
    const { width, height } = this.camera.size
    this.ratio = window.devicePixelRatio || 1
    if (
      this.canvas.width !== Math.round(width * this.ratio) ||
      this.canvas.height !== Math.round(height * this.ratio)
    ) {
      this.canvas.width = Math.round(width * this.ratio)
      this.canvas.height = Math.round(height * this.ratio)
    }
    this.pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0)
    this.pen.clearRect(0, 0, width, height)
  }

  /** Draw images where they sit; where they are drawn, for those under the pointer. */
  images(placed: readonly Placed[], frame: Frame, points: Points, sidePx: number, paper: string): Shown[] {
    const { pen, camera } = this
    const shown: Shown[] = []
    const size = sidePx / camera.view.scale
    for (const one of placed) {
      const [px, py] = [points.x[one.row], points.y[one.row]]
      const seat = seatOf(one, frame, size, px, py)
      const at = camera.toPage(seat.x, seat.y)
      const bitmap = this.thumbnails.bitmap(points.row(one.row))
      if (!bitmap) continue
      const fit = (sidePx - 4) / Math.max(bitmap.width, bitmap.height)
      const [w, h] = [bitmap.width * fit, bitmap.height * fit]
      const point = camera.toPage(px, py)
      const color = points.cssColor(one.row)
      if (Math.hypot(point.x - at.x, point.y - at.y) > sidePx * 0.75) this.line(at, point, color)
      pen.fillStyle = color
      pen.fillRect(at.x - w / 2 - 2, at.y - h / 2 - 2, w + 4, h + 4)
      pen.fillStyle = paper
      pen.fillRect(at.x - w / 2 - 0.5, at.y - h / 2 - 0.5, w + 1, h + 1)
      pen.drawImage(bitmap, at.x - w / 2, at.y - h / 2, w, h)
      shown.push({ place: one.row, x: at.x, y: at.y, side: sidePx })
    }
    return shown
  }

  /** Rings around what is highlighted, and lines from an image to its neighbours. */
  highlights(marks: Highlights, points: Points, shown: readonly Shown[], colors: Record<string, string>): void {
    const squares = new Map(shown.map((one) => [one.place, one]))
    const at = (place: number) => squares.get(place) ?? this.camera.toPage(points.x[place], points.y[place])
    const on = (place: number) => place >= 0 && points.x[place] === points.x[place]
    if (marks.selected.length <= MOST_RINGS)
      for (const place of marks.selected) if (on(place)) this.ring(at(place), squares.get(place), colors.selected, 1.5)
    for (const place of marks.neighbors.filter(on)) {
      if (on(marks.focus)) this.line(at(marks.focus), at(place), colors.neighbor)
      this.ring(at(place), squares.get(place), colors.neighbor, 2)
    }
    for (const place of marks.hits.slice(0, MOST_RINGS))
      if (on(place)) this.ring(at(place), squares.get(place), colors.hit, 2)
    if (on(marks.hovered)) this.ring(at(marks.hovered), squares.get(marks.hovered), colors.ink, 1.5)
    if (!on(marks.focus)) return
    this.ring(at(marks.focus), squares.get(marks.focus), colors.focus, 3)
    const picture = squares.has(marks.focus) ? null : this.thumbnails.bitmap(points.row(marks.focus))
    if (picture) this.pin(at(marks.focus), picture, colors.focus, colors.paper)
  }

  guests(guests: readonly Guest[], color: string, paper: string): void {
    for (const { x, y, picture } of guests) this.pin(this.camera.toPage(x, y), picture, color, paper)
  }

  /** A picture above its point, and a tip that ends in it. */
  private pin(at: Point, picture: ImageBitmap, color: string, paper: string): void {
    const { pen } = this
    const fit = GUEST_PX / Math.max(picture.width, picture.height)
    const [w, h] = [picture.width * fit, picture.height * fit]
    const top = at.y - h - 18
    pen.fillStyle = color
    pen.beginPath()
    pen.moveTo(at.x, at.y)
    pen.lineTo(at.x - 8, at.y - 15)
    pen.lineTo(at.x + 8, at.y - 15)
    pen.fill()
    pen.fillRect(at.x - w / 2 - 4, top - 4, w + 8, h + 8)
    pen.fillStyle = paper
    pen.fillRect(at.x - w / 2 - 1, top - 1, w + 2, h + 2)
    pen.drawImage(picture, at.x - w / 2, top, w, h)
  }

  /** The guest under a point of the page. */
  guestAt(at: Point, guests: readonly Guest[]): Guest | undefined {
    return guests.find((guest) => {
      const { x, y } = this.camera.toPage(guest.x, guest.y)
      return Math.abs(at.x - x) < GUEST_PX / 2 && at.y > y - GUEST_PX - 18 && at.y < y + 4
    })
  }

  outline(outline: readonly Point[], color: string): void {
    if (outline.length < 2) return
    const { pen } = this
    pen.beginPath()
    for (const { x, y } of outline) pen.lineTo(x, y)
    pen.closePath()
    pen.globalAlpha = 0.12
    pen.fillStyle = color
    pen.fill()
    pen.globalAlpha = 1
    pen.strokeStyle = color
    pen.lineWidth = 1.5
    pen.setLineDash([6, 4])
    pen.stroke()
    pen.setLineDash([])
  }

  /** The middle of the page, while the map is moved by keys. */
  reticle(color: string): void {
    const { width, height } = this.camera.size
    const { pen } = this
    pen.strokeStyle = color
    pen.lineWidth = 1.5
    pen.beginPath()
    pen.arc(width / 2, height / 2, 9, 0, 2 * Math.PI)
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      pen.moveTo(width / 2 + 5 * dx, height / 2 + 5 * dy)
      pen.lineTo(width / 2 + 14 * dx, height / 2 + 14 * dy)
    }
    pen.stroke()
  }

  private ring(at: Point, square: Shown | undefined, color: string, width: number): void {
    const { pen } = this
    if (at.x < -100 || at.y < -100 || at.x > this.camera.size.width + 100 || at.y > this.camera.size.height + 100)
      return
    pen.strokeStyle = color
    pen.lineWidth = width
    pen.beginPath()
    if (square) pen.rect(at.x - square.side / 2, at.y - square.side / 2, square.side, square.side)
    else pen.arc(at.x, at.y, 5 + width, 0, 2 * Math.PI)
    pen.stroke()
  }

  private line(a: Point, b: Point, color: string): void {
    const { pen } = this
    pen.strokeStyle = color
    pen.globalAlpha = 0.6
    pen.lineWidth = 1
    pen.beginPath()
    pen.moveTo(a.x, a.y)
    pen.lineTo(b.x, b.y)
    pen.stroke()
    pen.globalAlpha = 1
  }
}
