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
