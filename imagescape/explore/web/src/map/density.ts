/** How many points lie where, as a picture: each spot has the mean colour of its points, and is fuller the more there are. */

import type { Box } from './geometry'
import type { Backdrop } from './painter'

const FULL = 0.94
const FAINT = 0.16

/**
 * Count points into the spots of a picture of `box`.
 *
 * `places`: x and y by turns; `colors`: red, green, blue, alpha of each point, of which those with alpha 0 are not
 * counted; `stretches`: which points. Opacity grows with the logarithm of the count: of the fullest percent of the
 * spots that hold anything it is highest.
 */
export function densityPicture(
  places: Float32Array,
  colors: Uint8Array,
  stretches: readonly [number, number][],
  box: Box,
  width: number,
  height: number,
): Backdrop {
  const spots = width * height
  const weight = new Float32Array(spots)
  const sums = new Float32Array(spots * 3)
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
      const share = alpha / 255 // what is dimmed counts little
      weight[spot] += share
      sums[3 * spot] += share * colors[4 * i]
      sums[3 * spot + 1] += share * colors[4 * i + 1]
      sums[3 * spot + 2] += share * colors[4 * i + 2]
    }
  const highest = Math.log1p(nearlyHighest(weight))
  const pixels = new Uint8ClampedArray(spots * 4)
  for (let spot = 0; spot < spots; spot++) {
    if (weight[spot] === 0) continue
    const fullness = Math.min(1, Math.log1p(weight[spot]) / highest)
    pixels[4 * spot] = sums[3 * spot] / weight[spot]
    pixels[4 * spot + 1] = sums[3 * spot + 1] / weight[spot]
    pixels[4 * spot + 2] = sums[3 * spot + 2] / weight[spot]
    pixels[4 * spot + 3] = 255 * (FAINT + (FULL - FAINT) * fullness)
  }
  return { pixels, width, height, box }
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
  return Math.max(1, Math.expm1((step + 1) / scale))
}
