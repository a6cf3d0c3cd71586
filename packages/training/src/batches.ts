import type { JoinedBatch } from '@lorasmith/models';
import type {
  BatchLoss,
  ForwardRun,
  Objective,
  OwnMetrics,
  PassLoss,
  PassOptions,
  StepContext,
} from './objectives/objective.js';

/** A micro-batch that its model can be run on. */
export interface Batch {
  /** Tokens of its rows; rows for a classifier. */
  tokens: number;
  /** Tokens that a pass computes: those that rows share once. */
  computed: number;
  /** Targets of the loss. */
  labels: number;
  /** Forward and backward; the adapters take up their gradients. */
  lossAndGradients(options: PassOptions): PassLoss;
  /** Forward only. */
  loss(options: PassOptions): BatchLoss;
  /** See {@link Objective}. */
  ownMetrics(figures: readonly unknown[]): OwnMetrics;
  /** True if one pass can run both. */
  canJoin(other: Batch): boolean;
  /** This batch, then the others, in one. All of them can join this one. */
  join(others: readonly Batch[]): JoinedBatch<Batch>;
}

/** Joins a model with the examples it trains on. */
export interface BatchSource {
  count: number;
  /**
   * Puts examples into micro-batches whose losses are averaged together: of a step, or of an evaluation. Each is made when it is asked for.
   * @param run for what the loss of some objectives asks of the model before
   * @throws ProductError `cancelled`
   */
  batches(microBatches: readonly ArrayLike<number>[], run: ForwardRun): AsyncIterable<Batch>;
  /** See {@link Objective}. */
  metrics: Objective<never>['metrics'];
}

/** @param examples with what the loss needs of them */
export function batchSource<Of extends { count: number }>(
  objective: Objective<unknown, Of>,
  examples: Of,
): BatchSource {
  const { count } = examples;
  return {
    count,
    async *batches(microBatches, run) {
      const context = (await objective.context?.(examples, microBatches, run)) ?? NOTHING_SHARED;
      for (const indices of microBatches) {
        const batch = objective.batch(examples, indices, context);
        yield runnable(objective, batch);
      }
    },
    metrics: (losses) => objective.metrics(losses),
  };
}

const NOTHING_SHARED: StepContext = { likelihoodShare: 0, divergence: 0 };

/** A batch with the objective it is run for. */
export function runnable<Kind>(objective: Objective<Kind>, batch: Kind): Batch {
  return new BatchWithObjective(objective, batch);
}

class BatchWithObjective<Kind> implements Batch {
  readonly #objective: Objective<Kind>;
  readonly #batch: Kind;

  constructor(objective: Objective<Kind>, batch: Kind) {
    this.#objective = objective;
    this.#batch = batch;
  }

  get tokens(): number {
    return this.#objective.tokensIn(this.#batch);
  }

  get computed(): number {
    return this.#objective.computedIn(this.#batch);
  }

  get labels(): number {
    return this.#objective.labelsIn(this.#batch);
  }

  lossAndGradients(options: PassOptions): PassLoss {
    return this.#objective.lossAndGradients(this.#batch, options);
  }

  loss(options: PassOptions): BatchLoss {
    return this.#objective.loss(this.#batch, options);
  }

  ownMetrics(figures: readonly unknown[]): OwnMetrics {
    return this.#objective.ownMetrics?.(figures) ?? {};
  }

  canJoin(other: Batch): other is BatchWithObjective<Kind> {
    return other instanceof BatchWithObjective && other.#objective === this.#objective;
  }

  join(others: readonly Batch[]): JoinedBatch<Batch> {
    const all = [this, ...others.filter((other) => this.canJoin(other))];
    const { batch, ...ranges } = this.#objective.join(all.map((one) => one.#batch));
    return { batch: runnable(this.#objective, batch), ...ranges };
  }
}
