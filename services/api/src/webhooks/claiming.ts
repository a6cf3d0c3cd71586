export interface ClaimingOptions<Work> {
  /** Pieces of work that are under way at once. */
  atOnce: number;
  /** Claims a piece of work unless as many are under way as may be; null once it has waited for one. */
  next(isFull: boolean, signal: AbortSignal): Promise<Work | null>;
  /** Does a piece of work. It does not reject. */
  attempt(work: Work, signal: AbortSignal): Promise<void>;
}

/**
 * Claims pieces of work and does them, several at once.
 * @returns stops it: the signal aborts, and what is under way is awaited
 */
export function startClaiming<Work>({ atOnce, next, attempt }: ClaimingOptions<Work>): () => Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  const underWay = new Set<Promise<void>>();
  const run = async () => {
    while (!signal.aborted) {
      const work = await next(underWay.size >= atOnce, signal);
      if (work === null) continue;
      const one = attempt(work, signal).finally(() => underWay.delete(one));
      underWay.add(one);
    }
  };
  const running = run();
  return async () => {
    over.abort();
    await running;
    await Promise.all(underWay);
  };
}
