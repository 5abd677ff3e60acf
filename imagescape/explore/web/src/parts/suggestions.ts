/** What a text in the search box may mean. */

import type { Explorer } from '../explorer'
import type { Suggestion } from './find'
import { complain } from './notices'

const MOST_CLASSES = 8
const CONDITION = /[<>=]|\b(like|in|is|and|or|not|between|array_has)\b/i

/** Ways to look for a text, the likeliest first. */
export function suggestionsFor(explorer: Explorer, text: string): Suggestion[] {
  const run = (work: () => Promise<void>) => () => void work().catch(complain)
  const { about, server } = explorer.client
  const byText = server && [...about.features].reverse().find((one) => one.by_text)
  const meaning: Suggestion[] = byText
    ? [
        {
          title: `Pictures of “${text}”`,
          kind: `by ${byText.name}`,
          act: run(() => explorer.findText(byText.name, text)),
        },
      ]
    : []
  const names: Suggestion[] = [
    { title: `“${text}” in file names`, kind: 'names', act: run(() => explorer.findNamed(text)) },
  ]
  const where: Suggestion[] = server
    ? [{ title: `Where ${text}`, kind: 'condition', act: run(() => explorer.findWhere(text)) }]
    : []
  const classes = matchingClasses(explorer, text)
  const tags: Suggestion[] = explorer.tags
    .filter(({ name }) => name.toLowerCase().includes(text.toLowerCase()))
    .slice(0, 4)
    .map(({ name }) => ({ title: name, kind: 'tag', act: run(() => explorer.selectTag(name)) }))
  if (CONDITION.test(text)) return [...where, ...meaning, ...names, ...classes, ...tags]
  return [...meaning, ...classes, ...tags, ...names, ...where]
}

/** Classes of the columns in use, and images by their id. */
function matchingClasses(explorer: Explorer, text: string): Suggestion[] {
  const wanted = text.toLowerCase()
  const found: Suggestion[] = []
  const { colorBy, clustering } = explorer.state.values
  for (const name of new Set([clustering, colorBy])) {
    const column = name ? explorer.column(name) : undefined
    if (column?.kind !== 'classes') continue
    column.names.forEach((title, code) => {
      if (title.toLowerCase().includes(wanted) && found.length < MOST_CLASSES)
        found.push({ title, kind: name, act: () => void explorer.selectClass(name, code).catch(complain) })
    })
  }
  if (/^[0-9a-f]{16}$/.test(wanted)) {
    const row = explorer.client.rowOf(wanted)
    if (row >= 0) found.unshift({ title: wanted, kind: 'image', act: () => explorer.open(row) })
  }
  return found
}
