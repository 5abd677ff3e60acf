/** Mouse, pen and fingers on the map: moving it, enlarging it, drawing around what is to be selected. */

import type { Camera } from './camera'
import type { Point } from './geometry'

export type Tool = 'move' | 'lasso' | 'rectangle'

export interface GestureTargets {
  /** What a drag of the main button does; Shift makes a lasso of moving. */
  tool: () => Tool
  onPoint: (at: Point | null) => void
  onClick: (at: Point, event: PointerEvent) => void
  onDoubleClick: (at: Point, event: PointerEvent) => void
  onOutline: (outline: readonly Point[]) => void
  /** The outline is closed; `add`: to what is selected already. */
  onSelect: (outline: readonly Point[], add: boolean) => void
}

const CLICK_PX = 5
const WHEEL_SPEED = 0.0016
const DOUBLE_CLICK_MS = 320

export function attachGestures(node: HTMLElement, camera: Camera, targets: GestureTargets): void {
  const fingers = new Map<number, Point>()
  let start: Point | null = null
  let outline: Point[] | null = null
  let moved = false
  let shape: Tool = 'move'
  let lastClick = { time: 0, x: 0, y: 0 }
  const at = (event: MouseEvent): Point => {
    const box = node.getBoundingClientRect()
    return { x: event.clientX - box.left, y: event.clientY - box.top }
  }

  node.addEventListener('pointerdown', (event) => {
    if (event.button > 1) return
    node.setPointerCapture(event.pointerId)
    fingers.set(event.pointerId, at(event))
    if (fingers.size > 1) return cancel()
    start = at(event)
    moved = false
    const tool = event.button === 1 ? 'move' : event.shiftKey && targets.tool() === 'move' ? 'lasso' : targets.tool()
    outline = tool === 'move' ? null : [start]
    shape = tool
  })

  node.addEventListener('pointermove', (event) => {
    const here = at(event)
    const before = fingers.get(event.pointerId)
    if (!before) return targets.onPoint(here)
    if (fingers.size === 2) pinch(event.pointerId, here)
    else if (start) {
      moved ||= Math.hypot(here.x - start.x, here.y - start.y) > CLICK_PX
      if (moved && outline) draw(here)
      else if (moved) camera.pan(here.x - before.x, here.y - before.y)
    }
    if (moved || fingers.size > 1) fingers.set(event.pointerId, here)
    if (moved) targets.onPoint(null)
  })

  const end = (event: PointerEvent) => {
    const was = fingers.delete(event.pointerId)
    if (!was || fingers.size > 0) return
    const here = at(event)
    if (event.type === 'pointercancel') cancel()
    else if (start && !moved) click(here, event)
    else if (outline && outline.length > 2) targets.onSelect(outline, event.ctrlKey || event.metaKey)
    if (outline) targets.onOutline([])
    outline = null
    start = null
  }
  node.addEventListener('pointerup', end)
  node.addEventListener('pointercancel', end)
  node.addEventListener('pointerleave', () => fingers.size === 0 && targets.onPoint(null))

  node.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault()
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 24 : 1
      const speed = event.ctrlKey ? 5 * WHEEL_SPEED : WHEEL_SPEED // a pinch on a touchpad comes as Ctrl and small steps
      camera.zoom(Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * speed), at(event))
    },
    { passive: false },
  )

  function draw(here: Point): void {
    const first = (outline as Point[])[0]
    if (shape === 'rectangle') outline = [first, { x: here.x, y: first.y }, here, { x: first.x, y: here.y }]
    else {
      const last = (outline as Point[])[(outline as Point[]).length - 1]
      if (Math.hypot(here.x - last.x, here.y - last.y) >= 3) (outline as Point[]).push(here)
    }
    targets.onOutline(outline as Point[])
  }

  function pinch(id: number, here: Point): void {
    const [a, b] = [...fingers.entries()]
    const other = a[0] === id ? b[1] : a[1]
    const before = fingers.get(id) as Point
    const apart = Math.hypot(here.x - other.x, here.y - other.y)
    const wasApart = Math.hypot(before.x - other.x, before.y - other.y)
    camera.pan((here.x - before.x) / 2, (here.y - before.y) / 2)
    if (wasApart > 1) camera.zoom(apart / wasApart, { x: (here.x + other.x) / 2, y: (here.y + other.y) / 2 })
  }

  function click(here: Point, event: PointerEvent): void {
    const again =
      event.timeStamp - lastClick.time < DOUBLE_CLICK_MS && Math.hypot(here.x - lastClick.x, here.y - lastClick.y) < 8
    lastClick = { time: again ? 0 : event.timeStamp, ...here }
    if (again) targets.onDoubleClick(here, event)
    else targets.onClick(here, event)
  }

  function cancel(): void {
    if (outline) targets.onOutline([])
    outline = null
    start = null
  }
}
