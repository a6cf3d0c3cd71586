/** Limits concurrent calls. Further calls wait, first come, first served. With one permit it is a mutex. */
export class Semaphore {
  readonly #permits: number;
  #running = 0;
  readonly #waiting = new Set<() => void>();

  constructor(permits: number) {
    this.#permits = permits;
  }

  /** How many calls wait. */
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
