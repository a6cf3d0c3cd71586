import { type Permutation, seededPermutation } from '@lorasmith/seeded-random';

/** The rows of an optimizer step: its micro-batches, each a list of examples. */
export interface StepRows {
  /** Passes over the data that are complete once the step is. */
  epoch: number;
  microBatches: Int32Array[];
}

/**
 * The examples that each optimizer step trains on. Every epoch has an order of its own, drawn from the seed and the number of
 * the epoch alone: the position in the data follows from the number of the step, and a resumed run needs nothing else.
 */
export class RowOrder {
  readonly #count: number;
  readonly #batchSize: number;
  readonly #accumulation: number;
  readonly #seed: number;
  #shuffled: { epoch: number; order: Permutation } | null = null;

  constructor(count: number, settings: { batchSize: number; accumulation: number; seed: number }) {
    this.#count = count;
    this.#batchSize = settings.batchSize;
    this.#accumulation = settings.accumulation;
    this.#seed = settings.seed;
  }

  /** @param step from 0; the last step of an epoch may be smaller, none crosses into the next epoch */
  rowsOf(step: number): StepRows {
    const rowsPerStep = this.#batchSize * this.#accumulation;
    const stepsPerEpoch = Math.ceil(this.#count / rowsPerStep);
    const epoch = Math.floor(step / stepsPerEpoch);
    const first = (step % stepsPerEpoch) * rowsPerStep;
    const end = Math.min(first + rowsPerStep, this.#count);
    const order = this.#orderOf(epoch);
    const microBatches: Int32Array[] = [];
    for (let start = first; start < end; start += this.#batchSize) {
      const length = Math.min(this.#batchSize, end - start);
      microBatches.push(Int32Array.from({ length }, (_, offset) => order.at(start + offset)));
    }
    return { epoch: epoch + end / this.#count, microBatches };
  }

  #orderOf(epoch: number): Permutation {
    if (this.#shuffled?.epoch !== epoch) {
      this.#shuffled = { epoch, order: seededPermutation(this.#seed, `order of epoch ${epoch}`, this.#count) };
    }
    return this.#shuffled.order;
  }
}
