import { ProductError } from '@lorasmith/contracts';

/** One merge at a time takes all cores and the memory of a whole tensor; this many may wait for it. */
const MAX_WAITING = 16;

/** Runs pieces of work one after the other. */
export class MergeQueue {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** @throws ProductError service_unavailable when too many wait; whatever the work throws */
  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#waiting >= MAX_WAITING) {
      throw new ProductError(
        'service_unavailable',
        `${MAX_WAITING} merges are already waiting, which is the limit. Try again later.`,
      );
    }
    this.#waiting++;
    const turn = this.#tail.then(() => {
      this.#waiting--;
      return work();
    });
    this.#tail = turn.catch(() => {});
    return await turn;
  }
}
