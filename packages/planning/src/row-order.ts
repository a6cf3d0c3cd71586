import type { JobSpec, TrainingSettings } from '@lorasmith/contracts';
import { type Permutation, seededPermutation } from '@lorasmith/seeded-random';
import type { Examples } from './example-file/examples.js';
import { loadOf } from './objectives/objectives.js';
import type { StepCounts } from './schedule.js';

/** The rows of an optimizer step: its micro-batches, each a list of examples. */
export interface StepRows {
  /** Passes over the data that are complete once the step is. */
  epoch: number;
  microBatches: Int32Array[];
}

export interface RowOrderSettings {
  batchSize: number;
  accumulation: number;
  seed: number;
  /** True if every epoch has the order of the first. @defaultValue false */
  isSame?: boolean;
  /** Steps one after the other that have the same examples. @defaultValue 1 */
  updates?: number;
}

/** The settings of a job that decide about the order of its examples. */
export interface OrderedJob {
  training: Pick<TrainingSettings, 'batch_size' | 'gradient_accumulation_steps' | 'seed'>;
  objective?: JobSpec['objective'];
}

/** The order in which a job reads its examples. */
export function rowOrderOf(
  { kind, count }: Pick<Examples, 'kind' | 'count'>,
  { training, objective }: OrderedJob,
): RowOrder {
  const { batch_size: batchSize, gradient_accumulation_steps: accumulation, seed } = training;
  const { keepsOrder: isSame, updates } = loadOf({ kind }, objective);
  return new RowOrder(count, { batchSize, accumulation, seed, isSame, updates });
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
  readonly #isSame: boolean;
  readonly #updates: number;
  #shuffled: { epoch: number; order: Permutation } | null = null;

  constructor(count: number, settings: RowOrderSettings) {
    this.#count = count;
    this.#batchSize = settings.batchSize;
    this.#accumulation = settings.accumulation;
    this.#seed = settings.seed;
    this.#isSame = settings.isSame ?? false;
    this.#updates = settings.updates ?? 1;
  }

  /** @param step from 0; the last step of an epoch may be smaller, none crosses into the next epoch */
  rowsOf(step: number): StepRows {
    const rowsPerStep = this.#batchSize * this.#accumulation;
    const batchesPerEpoch = Math.ceil(this.#count / rowsPerStep);
    const batch = Math.floor(step / this.#updates);
    const epoch = Math.floor(batch / batchesPerEpoch);
    const first = (batch % batchesPerEpoch) * rowsPerStep;
    const end = Math.min(first + rowsPerStep, this.#count);
    const order = this.#orderOf(this.#isSame ? 0 : epoch);
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

/** The tokens that all steps of a job read: those of its complete epochs, and of the rows that an incomplete last one begins with. */
export function tokensOfSteps(
  examples: Pick<Examples, 'kind' | 'count' | 'tokens' | 'lengthOf'>,
  job: OrderedJob,
  { perEpoch, total }: StepCounts,
): number {
  const epochs = Math.floor(total / perEpoch);
  const order = rowOrderOf(examples, job);
  let tokens = epochs * examples.tokens * loadOf(examples, job.objective).updates;
  for (let step = epochs * perEpoch; step < total; step++) {
    for (const microBatch of order.rowsOf(step).microBatches) {
      for (const index of microBatch) tokens += examples.lengthOf(index);
    }
  }
  return tokens;
}

/**
 * The examples of each micro-batch of an evaluation, in their order: as many as a micro-batch of the training has, and more while
 * the pass is shorter than one that jobs share. It saves nothing for a backward pass, so it needs less memory than one that trains.
 * @param passTokens of a pass that jobs share
 */
export function* evaluationBatches(
  examples: Pick<Examples, 'kind' | 'count' | 'lengthOf'>,
  { objective, training }: Pick<JobSpec, 'objective'> & { training: Pick<JobSpec['training'], 'batch_size'> },
  passTokens: number,
): Generator<number[]> {
  const load = loadOf(examples, objective);
  let batch: number[] = [];
  let tokens = 0;
  for (let index = 0; index < examples.count; index++) {
    const own = load.tokensOf(examples.lengthOf(index));
    if (batch.length >= training.batch_size && tokens + own > passTokens) {
      yield batch;
      batch = [];
      tokens = 0;
    }
    batch.push(index);
    tokens += own;
  }
  if (batch.length > 0) yield batch;
}
