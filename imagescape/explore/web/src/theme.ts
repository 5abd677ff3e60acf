/** Light or dark: as the system has it, until somebody chooses. */

import type { Theme } from './columns/palette'

const KEY = 'imagescape-theme'

export function currentTheme(): Theme {
  const chosen = stored()
  if (chosen) return chosen
  return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'
}

/** Apply the theme now, and `listener` whenever it changes. */
export function watchTheme(listener: (theme: Theme) => void): void {
  const apply = () => {
    document.documentElement.dataset.theme = currentTheme()
    listener(currentTheme())
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', apply)
  changed = apply
  document.documentElement.dataset.theme = currentTheme()
}

export function toggleTheme(): void {
  const next: Theme = currentTheme() === 'dark' ? 'light' : 'dark'
  try {
    localStorage.setItem(KEY, next)
  } catch {
    fallback = next // a page without storage remembers until it is left
  }
  changed()
}

let changed = () => {}
let fallback: Theme | undefined

function stored(): Theme | undefined {
  try {
    const value = localStorage.getItem(KEY)
    return value === 'dark' || value === 'light' ? value : fallback
  } catch {
    return fallback
  }
}
