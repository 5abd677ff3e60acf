/** Points, boxes and polygons of the plane. */

export interface Point {
  x: number
  y: number
}

export interface Box {
  left: number
  bottom: number
  right: number
  top: number
}

/** The smallest box around the points of a polygon. */
export function boxAround(polygon: readonly Point[]): Box {
  const box = { left: Infinity, bottom: Infinity, right: -Infinity, top: -Infinity }
  for (const { x, y } of polygon) {
    box.left = Math.min(box.left, x)
    box.right = Math.max(box.right, x)
    box.bottom = Math.min(box.bottom, y)
    box.top = Math.max(box.top, y)
  }
  return box
}

/**
 * Whether (x, y) lies within a polygon, by the even-odd rule: a ray to the right crosses its edges an odd number of
 * times. Every edge owns its lower end, so that points level with a corner are counted once.
 */
export function isInside(x: number, y: number, polygon: readonly Point[]): boolean {
  let inside = false
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const a = polygon[i]
    const b = polygon[j]
    if (a.y > y !== b.y > y && x < ((b.x - a.x) * (y - a.y)) / (b.y - a.y) + a.x) inside = !inside
  }
  return inside
}

export function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.bottom < b.top && b.bottom < a.top
}

/** The box made larger by a fraction of its own width and height on every side. */
export function widened(box: Box, fraction: number): Box {
  const dx = (box.right - box.left) * fraction
  const dy = (box.top - box.bottom) * fraction
  return { left: box.left - dx, right: box.right + dx, bottom: box.bottom - dy, top: box.top + dy }
}

export function contains(outer: Box, inner: Box): boolean {
  return (
    outer.left <= inner.left && outer.right >= inner.right && outer.bottom <= inner.bottom && outer.top >= inner.top
  )
}
