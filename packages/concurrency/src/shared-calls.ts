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
