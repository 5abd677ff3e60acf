/** How many points lie where, as a picture: each spot has the mean colour of its points, and is fuller the more there are. */

import type { Box } from './geometry'
import type { Backdrop } from './painter'

const FULL = 0.94
const FAINT = 0.16
const LEAST = 1e-3
const BLUR = 3 // spots to each side, twice

export interface DensityPoints {
  /** x and y by turns. */
  places: Float32Array
  /** Red, green, blue, alpha of each. */
  colors: Uint8Array
  /** How many images each stands for; undefined if only for itself. */
  weights?: Float32Array
}

/**
 * Count points into the spots of a picture of `box`.
 *
 * Points with alpha 0 are not counted; `stretches`: which points are. Opacity grows with the logarithm of the count: of the fullest percent of the
 * spots that hold anything it is highest.
 */
export function densityPicture(
  { places, colors, weights }: DensityPoints,
  stretches: readonly [number, number][],
  box: Box,
  width: number,
  height: number,
): Backdrop {
  const spots = width * height
  let weight = new Float32Array(spots)
  const sums = [0, 1, 2].map(() => new Float32Array(spots))
  const sx = width / (box.right - box.left)
  const sy = height / (box.top - box.bottom)
  for (const [start, end] of stretches)
    for (let i = start; i < end; i++) {
      const alpha = colors[4 * i + 3]
      if (alpha === 0) continue
      const column = Math.floor((places[2 * i] - box.left) * sx)
      const line = Math.floor((places[2 * i + 1] - box.bottom) * sy)
      if (!(column >= 0 && column < width && line >= 0 && line < height)) continue
      const spot = line * width + column
      const share = (weights ? weights[i] : 1) * (alpha / 255) // what is dimmed counts little
      weight[spot] += share
      for (let part = 0; part < 3; part++) sums[part][spot] += share * colors[4 * i + part]
    }
  if (weights) {
    // A sample: what it stands for lies about its points, and not on them.
    weight = blurred(weight, width, height)
    for (let part = 0; part < 3; part++) sums[part] = blurred(sums[part], width, height)
  }
  const highest = Math.log1p(nearlyHighest(weight))
  const pixels = new Uint8ClampedArray(spots * 4)
  for (let spot = 0; spot < spots; spot++) {
    if (weight[spot] < LEAST) continue
    const fullness = Math.min(1, Math.log1p(weight[spot]) / highest)
    for (let part = 0; part < 3; part++) pixels[4 * spot + part] = sums[part][spot] / weight[spot]
    pixels[4 * spot + 3] = 255 * (FAINT * Math.min(1, weight[spot]) + (FULL - FAINT) * fullness)
  }
  return { pixels, width, height, box }
}

/** The means of the squares around each spot, and of these once more: nearly the bell of Gauss. */
function blurred(values: Float32Array, width: number, height: number): Float32Array<ArrayBuffer> {
  let from = Float32Array.from(values)
  for (let pass = 0; pass < 2; pass++) {
    from = along(from, width, height, 1, width)
    from = along(from, height, width, width, 1)
  }
  return from
}

/** Means over `lines` lines of `length` spots that are `step` apart; the lines are `gap` apart. */
function along(
  values: Float32Array,
  length: number,
  lines: number,
  step: number,
  gap: number,
): Float32Array<ArrayBuffer> {
  const means = new Float32Array(values.length)
  for (let line = 0; line < lines; line++) {
    const at = (i: number) => (i < 0 || i >= length ? 0 : values[line * gap + i * step])
    let sum = 0
    for (let i = 0; i < BLUR; i++) sum += at(i)
    for (let i = 0; i < length; i++) {
      sum += at(i + BLUR) - at(i - BLUR - 1)
      means[line * gap + i * step] = sum / (2 * BLUR + 1)
    }
  }
  return means
}

/** The weight that one in a hundred of the spots that hold anything is above. */
function nearlyHighest(weight: Float32Array): number {
  const steps = 512
  let most = 0
  let held = 0
  for (const one of weight) {
    if (one > 0) held++
    if (one > most) most = one
  }
  if (most === 0) return 1
  const scale = (steps - 1) / Math.log1p(most)
  const counts = new Uint32Array(steps)
  for (const one of weight) if (one > 0) counts[Math.floor(Math.log1p(one) * scale)]++
  let above = held / 100
  let step = steps - 1
  while (step > 0 && above >= counts[step]) above -= counts[step--]
  return Math.max(1e-6, Math.expm1((step + 1) / scale))
}
