/** Far less than the time between two scrapes, and more than what lies between the first and the last figure of one. */
const SHARED_MS = 1_000;

/** One look for all figures of a scrape that come from it: whoever asks within a second gets the same answer. */
export function sharedLook<Found>(look: () => Promise<Found>): () => Promise<Found> {
  let current: { at: number; found: Promise<Found> } | undefined;
  return () => {
    const now = performance.now();
    if (current === undefined || now - current.at > SHARED_MS) current = { at: now, found: look() };
    return current.found;
  };
}
