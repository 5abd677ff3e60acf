/** What the page shows now. Parts of the page listen to the parts of it that concern them. */

import type { Filters } from './columns/filters'
import type { Hit } from './client/client'
import type { Point } from './map/geometry'
import type { Tool } from './map/gestures'

export interface Selection {
  rows: Uint32Array
  /** What was drawn around them, in coordinates of the map; empty if they were chosen otherwise. */
  polygon: readonly Point[]
  title: string
}

export interface Found {
  title: string
  hits: readonly Hit[]
  /** The picture that was looked for, to show beside what was found, and what that is to it. */
  query?: string
  about?: string
}

export interface Values {
  map: string
  colorBy: string
  clustering: string
  tool: Tool
  view: 'map' | 'review'
  /** What the panel shows. */
  panel: 'none' | 'image' | 'selection' | 'found'
  /** Row of the image that is looked at, -1 for none. */
  focus: number
  hovered: number
  selection: Selection | null
  found: Found | null
  neighbors: readonly Hit[]
}

type Name = keyof Values

export class State {
  readonly values: Values = {
    map: '',
    colorBy: '',
    clustering: '',
    tool: 'move',
    view: 'map',
    panel: 'none',
    focus: -1,
    hovered: -1,
    selection: null,
    found: null,
    neighbors: [],
  }
  private readonly listeners: { names: readonly Name[]; listener: () => void }[] = []

  constructor(readonly filters: Filters) {}

  /** Call `listener` when one of these changes. */
  on(names: readonly Name[], listener: () => void): void {
    this.listeners.push({ names, listener })
  }

  set(changes: Partial<Values>): void {
    const changed = (Object.keys(changes) as Name[]).filter((name) => this.values[name] !== changes[name])
    Object.assign(this.values, changes)
    for (const { names, listener } of this.listeners) if (names.some((name) => changed.includes(name))) listener()
  }
}
