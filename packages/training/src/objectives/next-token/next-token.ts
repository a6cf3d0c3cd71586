import type { Evaluation } from '@lorasmith/contracts';
import { type Decoder, type JoinedBatch, joinTokenBatches, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import type { TokenExamples } from '@lorasmith/planning';
import { concat, dispose, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import {
  type BatchLoss,
  meanOf,
  type Objective,
  type PassLoss,
  type PassOptions,
  takeBatchLoss,
} from '../objective.js';
import { nextTokenLoss } from './next-token-loss.js';

/** Cross entropy of each trained token, given those before it in its row. */
export class NextToken implements Objective<TokenBatch, TokenExamples> {
  readonly kind = 'next-token';
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  batch(examples: TokenExamples, indices: ArrayLike<number>): TokenBatch {
    const sequences = Array.from(indices, (index) => examples.sequence(index));
    return tokenBatchOf(sequences);
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
    const losses = new Float32Array(batch.order.length);
    let label = 0;
    let end = 0;
    for (const [row, length] of batch.rowLengths.entries()) {
      end += length;
      let sum = 0;
      while (label < batch.predictors.length && batch.predictors[label]! < end) sum -= logProbabilities[label++]!;
      losses[batch.order[row]!] = sum;
    }
    return losses;
  }

  /** `[labels]`: the logarithm of the probability of each trained token, in the order of the batch's labels. */
  tokenLogProbabilities(batch: TokenBatch, options: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#run(batch, options, false).losses).map((loss) => -loss));
  }

  /** @param record whether the adapters take up gradients */
  #run(batch: TokenBatch, { adapters, recomputedLayers = 0 }: PassOptions, record: boolean): PassLoss {
    return scope(() => {
      const pass = { adapters, record, recomputedLayers };
      const { hidden, saved, adapters: ofHead } = this.#model.forward(batch, batch.predictors, pass);
      const wantHidden = saved?.layers.some((layer) => layer !== null) ?? false;
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      const chunks = nextTokenLoss(hidden, labels, this.#model.head, { adapters: ofHead, record, wantHidden });
      dispose(hidden);
      const result = {
        losses: joined(chunks.map(({ loss }) => loss)),
        correct: joined(chunks.map(({ correct }) => correct)),
        normaliser: batch.labels.length,
      };
      if (saved === null || !wantHidden) return result;
      const gradients = chunks.map(({ gradient }) => gradient!);
      const gradient = concat(gradients, 0);
      dispose(gradients);
      this.#model.backward(gradient, saved);
      return result;
    });
  }

  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> {
    const { loss, accuracy } = meanOf(losses);
    const perplexity = Math.exp(loss);
    return { loss, perplexity: Number.isFinite(perplexity) ? perplexity : null, accuracy };
  }
}

/** Takes over `[size]` float32 of each chunk. */
function joined(chunks: Tensor[]): Tensor {
  if (chunks.length === 0) return tensorOf(new Float32Array(0), [0]);
  if (chunks.length === 1) return chunks[0]!;
  const all = concat(chunks, 0);
  dispose(chunks);
  return all;
}
