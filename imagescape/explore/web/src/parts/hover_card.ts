/** What is known of the image under the pointer, beside it. */

import { element, fill } from '../dom'
import type { Point } from '../map/geometry'

export interface Card {
  row: number
  picture: Promise<string | null>
  title: string
  lines: string[]
}

const AWAY_PX = 18

export class HoverCard {
  readonly node = element('div', { class: 'hover-card', attributes: { hidden: true, 'aria-hidden': 'true' } })
  private row = -1

  /** Show a card at a point of the page; undefined hides it. */
  show(card: Card | undefined, at: Point): void {
    if (!card) {
      this.row = -1
      this.node.hidden = true
      return
    }
    if (card.row !== this.row) this.write(card)
    this.node.hidden = false
    const room = this.node.offsetParent as HTMLElement | null
    const [width, height] = [this.node.offsetWidth, this.node.offsetHeight]
    const [roomX, roomY] = [room?.clientWidth ?? innerWidth, room?.clientHeight ?? innerHeight]
    const x = at.x + AWAY_PX + width < roomX ? at.x + AWAY_PX : at.x - AWAY_PX - width
    const y = Math.max(8, Math.min(roomY - height - 8, at.y - height / 3))
    this.node.style.transform = `translate(${Math.round(Math.max(8, x))}px, ${Math.round(y)}px)`
  }

  /** Write the name of the card's image, which has come. */
  rename(row: number, name: string): void {
    const title = this.node.querySelector('h2')
    if (this.row === row && title) title.textContent = name
  }

  private write(card: Card): void {
    this.row = card.row
    this.node.dataset.row = String(card.row)
    const picture = element('div', { class: 'picture' })
    fill(this.node, picture, element('h2', { text: card.title }), ...card.lines.map((text) => element('p', { text })))
    void card.picture.then((url) => {
      if (this.row !== card.row) return // the pointer is elsewhere by now
      if (url) fill(picture, element('img', { attributes: { src: url, alt: '' } }))
      else picture.append(element('span', { class: 'soft', text: 'no thumbnail' }))
    })
  }
}
