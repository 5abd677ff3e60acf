/** Which names of clusters are shown: the larger before the smaller, none over another, the same wherever the page is. */

export interface Named {
  id: number
  name: string
  size: number
  /** Where the name belongs on the map. */
  x: number
  y: number
  /** It is for views in which the map is enlarged 2^level times or more. */
  level: number
}

export interface LabelSize {
  width: number
  height: number
}

/**
 * Labels to show at a scale (pixels in one unit of the map); `whole` is the scale at which all of the map is seen.
 *
 * Only the scale decides, so names do not come and go while the map is moved. `measure` gives the pixels a name takes.
 */
export function placeLabels(
  named: readonly Named[],
  scale: number,
  whole: number,
  measure: (name: string) => LabelSize,
  { most = 80, gap = 6 } = {},
): Named[] {
  const level = Math.max(0.25, Math.log2(scale / whole) + 0.5)
  const shown: Named[] = []
  const boxes: { left: number; right: number; bottom: number; top: number }[] = []
  const bySize = [...named].sort((a, b) => b.size - a.size || a.id - b.id)
  for (const one of bySize) {
    if (shown.length >= most) break
    if (one.level > level) continue
    const { width, height } = measure(one.name)
    const [x, y] = [one.x * scale, one.y * scale]
    const box = {
      left: x - width / 2 - gap,
      right: x + width / 2 + gap,
      bottom: y - height / 2 - gap,
      top: y + height / 2 + gap,
    }
    const free = boxes.every(
      (other) =>
        box.right <= other.left || other.right <= box.left || box.top <= other.bottom || other.top <= box.bottom,
    )
    if (!free) continue
    shown.push(one)
    boxes.push(box)
  }
  return shown
}

/** The scale, rounded down to a quarter of an octave: between two of these the labels stay the same. */
export function labelScale(scale: number): number {
  return 2 ** (Math.floor(Math.log2(scale) * 4) / 4)
}
