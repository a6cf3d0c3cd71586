/** Limits concurrent calls. Further calls wait, first come, first served. With one permit it is a mutex. */
export class Semaphore {
  readonly #permits: number;
  #running = 0;
  readonly #waiting = new Set<() => void>();

  constructor(permits: number) {
    this.#permits = permits;
  }

  /** The number of calls that wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * @param signal - Ends the wait. Work that has started must observe it itself. @defaultValue none
   * @throws the reason of the signal; errors of the work
   */
  async run<Result>(work: () => Promise<Result>, signal?: AbortSignal): Promise<Result> {
    signal?.throwIfAborted();
    if (this.#running < this.#permits) this.#running++;
    else await this.#permit(signal);
    try {
      return await work();
    } finally {
      // The permit passes directly to the next waiting call.
      const [next] = this.#waiting;
      if (next === undefined) this.#running--;
      else next();
    }
  }

  async #permit(signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(begin);
        reject(signal!.reason);
      };
      const begin = () => {
        this.#waiting.delete(begin);
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      this.#waiting.add(begin);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }
}

/**
 * Maps like `Promise.all`, with at most `concurrency` calls at a time. After an error no further call starts.
 *
 * @returns the results, in the order of the items
 * @throws the first error, once the calls that had started have finished
 */
export async function mapWithConcurrency<Item, Result>(
  items: readonly Item[],
  concurrency: number,
  map: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  let failed = false;
  const work = async () => {
    while (next < items.length && !failed) {
      const index = next++;
      try {
        results[index] = await map(items[index]!);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: concurrency }, work));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  return results;
}

/** Concurrent calls with the same key share one execution and its outcome. */
export class SingleFlight<Result> {
  readonly #running = new Map<string, Promise<Result>>();

  /** The number of executions. */
  get size(): number {
    return this.#running.size;
  }

  /** The outcome of `call`, or of the execution with this key that is running. What `call` throws at once is thrown. */
  run(key: string, call: () => Promise<Result>): Promise<Result> {
    const current = this.#running.get(key);
    if (current !== undefined) return current;
    const started = call().finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return started;
  }

  /** Resolves when what runs now has ended. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }
}

/**
 * One piece of work for many callers. A caller gets the outcome of a round that began after its call, so what was done before the call counts; all
 * callers that wait for the same round share it. At most one round runs.
 */
export class SharedRounds<Result> {
  readonly #work: () => Promise<Result>;
  #running: Promise<unknown> = Promise.resolve();
  #next: Promise<Result> | null = null;

  constructor(work: () => Promise<Result>) {
    this.#work = work;
  }

  run(): Promise<Result> {
    if (this.#next === null) {
      const next = this.#running.then(() => {
        this.#next = null;
        return this.#work();
      });
      this.#next = next;
      this.#running = next.catch(() => {});
    }
    return this.#next;
  }
}
