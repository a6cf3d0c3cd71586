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
