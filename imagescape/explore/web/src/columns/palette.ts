/** Colours: of classes, told apart by hue and lightness; of amounts, from dark to bright. */

export type Rgb = readonly [number, number, number]
export type Theme = 'light' | 'dark'

export const NONE: Record<Theme, Rgb> = { light: [176, 180, 188], dark: [96, 102, 113] }

/** The colour of a class, from "#rrggbb". */
export function classColor(hex: string): Rgb {
  const number = parseInt(hex.slice(1), 16)
  return [number >> 16, (number >> 8) & 255, number & 255]
}

/** Stops of the scale of amounts, from lowest to highest; readable on both papers, lightness in one direction. */
const STOPS: Record<Theme, readonly (readonly [number, number, number])[]> = {
  light: [
    [0.8, 0.09, 95],
    [0.72, 0.14, 65],
    [0.62, 0.17, 30],
    [0.48, 0.17, 350],
    [0.32, 0.12, 300],
  ],
  dark: [
    [0.42, 0.12, 290],
    [0.52, 0.16, 340],
    [0.64, 0.17, 20],
    [0.77, 0.14, 65],
    [0.92, 0.1, 100],
  ],
}

/** The colour of an amount, `share` of the way from the lowest to the highest. */
export function amountColor(share: number, theme: Theme): Rgb {
  if (!(share === share)) return NONE[theme]
  const stops = STOPS[theme]
  const at = Math.min(1, Math.max(0, share)) * (stops.length - 1)
  const i = Math.min(stops.length - 2, Math.floor(at))
  const [a, b, t] = [stops[i], stops[i + 1], at - i]
  const turn = ((b[2] - a[2] + 540) % 360) - 180 // the shorter way around
  return oklch(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + turn * t)
}

export function css([red, green, blue]: Rgb): string {
  return `rgb(${red} ${green} ${blue})`
}

/** OKLCH to sRGB, 0 to 255; what no screen can show is cut off. */
export function oklch(lightness: number, chroma: number, hue: number): Rgb {
  const a = chroma * Math.cos((hue * Math.PI) / 180)
  const b = chroma * Math.sin((hue * Math.PI) / 180)
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3
  return [
    gamma(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    gamma(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    gamma(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ]
}

function gamma(linear: number): number {
  const cut = Math.min(1, Math.max(0, linear))
  return Math.round(255 * (cut <= 0.0031308 ? 12.92 * cut : 1.055 * cut ** (1 / 2.4) - 0.055))
}
