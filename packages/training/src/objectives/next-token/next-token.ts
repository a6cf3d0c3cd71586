import type { Evaluation } from '@lorasmith/contracts';
import {
  type Decoder,
  type JoinedBatch,
  joinTokenBatches,
  type RowsAlike,
  type TokenBatch,
  tokenBatchOf,
  tokensOfRows,
} from '@lorasmith/models';
import type { TokenExamples } from '@lorasmith/planning';
import { scope, toFloat32Array } from '@lorasmith/tensor';
import { labelLosses } from '../label-losses.js';
import {
  type BatchLoss,
  lossAndAccuracy,
  type Objective,
  type PassLoss,
  type PassOptions,
  takeBatchLoss,
} from '../objective.js';
import { ofKind, type TrainedObjective } from '../trained-objective.js';

/** Cross entropy of each trained token, given those before it in its row. */
export class NextToken implements Objective<TokenBatch, TokenRows> {
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  batch(rows: TokenRows, indices: ArrayLike<number>): TokenBatch {
    return rows.batch(indices);
  }

  tokensIn(batch: TokenBatch): number {
    return tokensOfRows(batch);
  }

  computedIn({ ids }: TokenBatch): number {
    return ids.length;
  }

  labelsIn({ labels }: TokenBatch): number {
    return labels.length;
  }

  join(batches: readonly TokenBatch[]): JoinedBatch<TokenBatch> {
    return joinTokenBatches(batches);
  }

  loss(batch: TokenBatch, options: PassOptions): BatchLoss {
    return takeBatchLoss(this.#run(batch, options, false));
  }

  lossAndGradients(batch: TokenBatch, options: PassOptions): PassLoss {
    return this.#run(batch, options, true);
  }

  rowLosses(batch: TokenBatch, options: PassOptions): Float32Array {
    const logProbabilities = this.tokenLogProbabilities(batch, options);
    const rowOf = rowsOfTokens(batch);
    const sums = new Array<number>(batch.order.length).fill(0);
    for (const [label, predictor] of batch.predictors.entries()) {
      sums[batch.order[rowOf[predictor]!]!]! -= logProbabilities[label]!;
    }
    return Float32Array.from(sums);
  }

  /** `[labels]`: the logarithm of the probability of each trained token, in the order of the batch's labels. */
  tokenLogProbabilities(batch: TokenBatch, options: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#run(batch, options, false).losses).map((loss) => -loss));
  }

  /** @param record true if the adapters take up gradients */
  #run(batch: TokenBatch, options: PassOptions, record: boolean): PassLoss {
    return { ...labelLosses(this.#model, batch, { ...options, record }), normaliser: batch.labels.length };
  }

  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> {
    const { loss, accuracy } = lossAndAccuracy(losses);
    const perplexity = Math.exp(loss);
    return { loss, perplexity: Number.isFinite(perplexity) ? perplexity : null, accuracy };
  }
}

/** Rows of tokens in a run. */
export const nextToken: TrainedObjective<TokenExamples> = {
  create: (base) => new NextToken(ofKind(base, 'decoder')),
  prepare: async ({ alike }) => ({ examplesOf: (examples) => new TokenRows(examples, alike) }),
};

/** Rows of tokens to train or to evaluate on, as batches have them. */
class TokenRows {
  readonly count: number;
  readonly #examples: TokenExamples;
  readonly #alike: RowsAlike;

  /** @param alike See tokenBatchOf. */
  constructor(examples: TokenExamples, alike: RowsAlike) {
    this.count = examples.count;
    this.#examples = examples;
    this.#alike = alike;
  }

  batch(indices: ArrayLike<number>): TokenBatch {
    return tokenBatchOf(
      Array.from(indices, (index) => this.#examples.sequence(index)),
      this.#alike,
    );
  }
}

/** `[tokens]` the row that each token of the stream is in; of shared ones, which predict no label, any. */
function rowsOfTokens({ ids, rowLengths, places }: TokenBatch): Int32Array {
  const rowOf = new Int32Array(ids.length);
  let token = 0;
  for (const [row, length] of rowLengths.entries()) {
    for (let i = 0; i < length; i++, token++) rowOf[places?.[token] ?? token] = row;
  }
  return rowOf;
}
