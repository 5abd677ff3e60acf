/** The names of clusters over the map: elements of the page, so that they are read out, clicked and renamed. */

import { element } from '../dom'
import { fitted, type Camera } from './camera'
import { labelScale, placeLabels, type LabelSize, type Named } from './label_layout'

export interface LabelTargets {
  onClick: (id: number) => void
  onRename: (id: number) => void
}

export class Labels {
  readonly node = element('div', { class: 'labels', attributes: { role: 'group', 'aria-label': 'Clusters' } })
  private named: readonly Named[] = []
  private shown: Named[] = []
  private scale = 0
  private readonly nodes = new Map<number, HTMLElement>()
  private readonly sizes = new Map<string, LabelSize>()
  private readonly pen = document.createElement('canvas').getContext('2d') as CanvasRenderingContext2D

  constructor(private readonly targets: LabelTargets) {}

  set(named: readonly Named[]): void {
    this.named = named
    this.scale = 0
    for (const node of this.nodes.values()) node.remove()
    this.nodes.clear()
  }

  /** The cluster whose name is under a point of the window. */
  at(x: number, y: number): number | undefined {
    const label = document.elementFromPoint(x, y)?.closest<HTMLElement>('.label')
    return label && this.node.contains(label) ? Number(label.dataset.cluster) : undefined
  }

  /** Put the names where the camera sees them. */
  draw(camera: Camera): void {
    const scale = labelScale(camera.view.scale)
    if (scale !== this.scale) this.choose(scale, fitted(camera.extent, camera.size).scale)
    for (const one of this.shown) {
      const node = this.nodes.get(one.id) as HTMLElement
      const { x, y } = camera.toPage(one.x, one.y)
      const out = x < -150 || y < -30 || x > camera.size.width + 150 || y > camera.size.height + 30
      node.hidden = out
      if (!out) node.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px) translate(-50%, -50%)`
    }
  }

  private choose(scale: number, whole: number): void {
    this.scale = scale
    this.shown = placeLabels(this.named, scale, whole, (name) => this.measure(name))
    const wanted = new Set(this.shown.map((one) => one.id))
    for (const [id, node] of this.nodes)
      if (!wanted.has(id)) {
        node.remove()
        this.nodes.delete(id)
      }
    for (const one of this.shown)
      if (!this.nodes.has(one.id)) this.nodes.set(one.id, this.node.appendChild(this.label(one)))
  }

  private label(one: Named): HTMLElement {
    return element('button', {
      class: 'label',
      text: shortened(one.name),
      title: `${one.name}: ${one.size.toLocaleString('en')} images. Click to select them, double-click to rename.`,
      attributes: { type: 'button', 'data-cluster': one.id, tabindex: -1 },
      // The map has the pointer, so that a drag may begin on a name; a click of keys or of a screen reader comes here.
      on: { click: (event) => event.detail === 0 && this.targets.onClick(one.id) },
    })
  }

  private measure(name: string): LabelSize {
    const known = this.sizes.get(name)
    if (known) return known
    this.pen.font = '600 13px system-ui, sans-serif'
    const size = { width: this.pen.measureText(shortened(name)).width + 14, height: 22 }
    this.sizes.set(name, size)
    return size
  }
}

function shortened(name: string): string {
  const line = name.split('\n', 1)[0]
  return line.length > 28 ? `${line.slice(0, 27)}…` : line
}
