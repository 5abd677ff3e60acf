/** A bar at the top of the page while something takes its time. */

let underway = 0

/** Show that `work` is under way until it is done. */
export async function busy<T>(work: Promise<T>): Promise<T> {
  document.body.toggleAttribute('data-busy', ++underway > 0)
  try {
    return await work
  } finally {
    document.body.toggleAttribute('data-busy', --underway > 0)
  }
}
