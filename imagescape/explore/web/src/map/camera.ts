/** What part of the map is seen: from coordinates of the map to pixels of the page. */

import type { Box, Point } from './geometry'

/** `x`, `y`: the map point in the middle of the picture. `scale`: pixels of the page in one map unit. */
export interface View {
  x: number
  y: number
  scale: number
}

export interface Size {
  width: number
  height: number
}

const SMALLEST_PX = 40 // the whole map is never drawn smaller
const LARGEST_PX = 4e6 // nor larger: a 32-bit coordinate is good to about a pixel there
const SETTLE_MS = 130
const FLIGHT_MS = 420

/** A view that people and program move, and that says so. */
export class Camera {
  view: View = { x: 0.5, y: 0.5, scale: 500 }
  size: Size = { width: 1, height: 1 }
  extent: Box = { left: 0, right: 1, bottom: 0, top: 1 }
  private listeners: (() => void)[] = []
  private settledListeners: (() => void)[] = []
  private timer = 0
  private flight = 0

  /** Call `listener` whenever another part is seen. */
  onMove(listener: () => void): void {
    this.listeners.push(listener)
  }

  /** Call `listener` when nothing has moved for a moment. */
  onSettle(listener: () => void): void {
    this.settledListeners.push(listener)
  }

  /** The page has other room for the map: what is at its upper left corner stays there; a whole map stays whole. */
  resize(size: Size): void {
    const whole = Math.abs(this.view.scale / fitted(this.extent, this.size).scale - 1) < 1e-3
    if (whole && this.size.width > 1) this.view = fitted(this.extent, size)
    else if (this.size.width > 1) {
      const { x, y, scale } = this.view
      const [dx, dy] = [(size.width - this.size.width) / 2 / scale, (size.height - this.size.height) / 2 / scale]
      this.view = { x: x + dx, y: y - dy, scale }
    }
    this.size = size
    this.changed()
  }

  set(view: View): void {
    const { left, right, bottom, top } = this.extent
    this.view = {
      x: clamp(view.x, left, right),
      y: clamp(view.y, bottom, top),
      scale: clamp(view.scale, ...scales(this.extent)),
    }
    this.changed()
  }

  /** Show all of a map that lies in `extent`. */
  enter(extent: Box): void {
    this.stop()
    this.extent = extent
    this.set(fitted(extent, this.size))
  }

  /** Move the picture by pixels. */
  pan(dx: number, dy: number): void {
    this.stop()
    this.set({ ...this.view, x: this.view.x - dx / this.view.scale, y: this.view.y + dy / this.view.scale })
  }

  /** Enlarge by `factor` about a point of the page, which stays where it is. */
  zoom(factor: number, about: Point = this.middle()): void {
    this.stop()
    this.set(this.zoomedTo(factor, about))
  }

  /** The view that `zoom` leads to. */
  zoomedTo(factor: number, about: Point = this.middle()): View {
    const [low, high] = scales(this.extent)
    return zoomed(this.view, this.size, clamp(factor, low / this.view.scale, high / this.view.scale), about)
  }

  private middle(): Point {
    return { x: this.size.width / 2, y: this.size.height / 2 }
  }

  /** Fly to a view; at once where motion is unwanted. */
  fly(target: View): void {
    this.stop()
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) return this.set(target)
    const from = this.view
    const start = performance.now()
    const step = (now: number) => {
      const t = Math.min(1, (now - start) / FLIGHT_MS)
      const e = t * t * (3 - 2 * t)
      const scale = from.scale * (target.scale / from.scale) ** e
      // The middle goes with the scale, so that a flight inward is straight on the page.
      const share =
        Math.abs(target.scale - from.scale) < 1e-6 * from.scale
          ? e
          : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / target.scale)
      this.set({ x: from.x + (target.x - from.x) * share, y: from.y + (target.y - from.y) * share, scale })
      this.flight = t < 1 ? requestAnimationFrame(step) : 0
    }
    this.flight = requestAnimationFrame(step)
  }

  toPage(x: number, y: number): Point {
    return toPage(this.view, this.size, x, y)
  }

  toMap(x: number, y: number): Point {
    return toMap(this.view, this.size, x, y)
  }

  /** The part of the map that is seen. */
  box(): Box {
    const { x, y, scale } = this.view
    const dx = this.size.width / 2 / scale
    const dy = this.size.height / 2 / scale
    return { left: x - dx, right: x + dx, bottom: y - dy, top: y + dy }
  }

  private stop(): void {
    cancelAnimationFrame(this.flight)
    this.flight = 0
  }

  private changed(): void {
    for (const listener of this.listeners) listener()
    clearTimeout(this.timer)
    this.timer = window.setTimeout(() => {
      for (const listener of this.settledListeners) listener()
    }, SETTLE_MS)
  }
}

export function toPage(view: View, size: Size, x: number, y: number): Point {
  return { x: size.width / 2 + (x - view.x) * view.scale, y: size.height / 2 - (y - view.y) * view.scale }
}

export function toMap(view: View, size: Size, x: number, y: number): Point {
  return { x: view.x + (x - size.width / 2) / view.scale, y: view.y - (y - size.height / 2) / view.scale }
}

export function zoomed(view: View, size: Size, factor: number, about: Point): View {
  const scale = view.scale * factor
  const held = toMap(view, size, about.x, about.y)
  return {
    x: held.x - (about.x - size.width / 2) / scale,
    y: held.y + (about.y - size.height / 2) / scale,
    scale,
  }
}

/** The view that shows a box whole, with a margin in pixels around it. */
export function fitted(box: Box, size: Size, margin = 52): View {
  const width = Math.max(box.right - box.left, Number.MIN_VALUE)
  const height = Math.max(box.top - box.bottom, Number.MIN_VALUE)
  const scale = Math.min(Math.max(60, size.width - 2 * margin) / width, Math.max(60, size.height - 2 * margin) / height)
  return { x: (box.left + box.right) / 2, y: (box.bottom + box.top) / 2, scale }
}

function scales(extent: Box): [number, number] {
  const side = Math.max(extent.right - extent.left, extent.top - extent.bottom)
  return [SMALLEST_PX / side, LARGEST_PX / side]
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value))
}
