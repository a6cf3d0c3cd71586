import { ProductError } from '@lorasmith/contracts';

/** Maximum waiting merges. They run one at a time: a merge uses all cores and the memory of a complete tensor. */
const MAX_WAITING = 16;

/** Runs one piece of work at a time. */
export class MergeQueue {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** @throws ProductError `service_unavailable` if too many wait; errors of the work */
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
