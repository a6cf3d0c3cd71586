import type { Evaluation } from '@lorasmith/contracts';
import { type Decoder, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import type { TokenExamples } from '@lorasmith/planning';
import { concat, dispose, scope, tensorOf } from '@lorasmith/tensor';
import { type BatchLoss, meanLoss, type Objective, type PassOptions } from '../objective.js';
import { nextTokenLoss } from './next-token-loss.js';

/** Cross entropy of each trained token, given those before it in its row. */
export class NextToken implements Objective<TokenBatch, TokenExamples> {
  readonly kind = 'next-token';
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  batch(examples: TokenExamples, indices: ArrayLike<number>, span: number): TokenBatch {
    const sequences = Array.from(indices, (index) => examples.sequence(index));
    return tokenBatchOf(sequences, span);
  }

  loss(batch: TokenBatch, options: PassOptions): BatchLoss {
    return { lossSum: this.#run(batch, options, {}).lossSum, normaliser: batch.labels.length, correct: null };
  }

  lossAndGradients(batch: TokenBatch, options: PassOptions): BatchLoss {
    const { lossSum } = this.#run(batch, options, { record: true });
    return { lossSum, normaliser: batch.labels.length, correct: null };
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
    const tokenLosses = new Float32Array(batch.labels.length);
    this.#run(batch, options, { tokenLosses });
    return tokenLosses.map((loss) => -loss);
  }

  /** @param tokenLosses filled with the loss of each label */
  #run(
    batch: TokenBatch,
    { adapters, recompute = false }: PassOptions,
    { record = false, tokenLosses = null }: { record?: boolean; tokenLosses?: Float32Array | null },
  ): { lossSum: number } {
    return scope(() => {
      const { hidden, saved } = this.#model.forward(batch, batch.predictors, { adapters, record, recompute });
      const labels = tensorOf(batch.labels, [batch.labels.length]);
      const options = { record, tokenLosses };
      const { lossSum, gradientChunks } = nextTokenLoss(hidden, labels, this.#model.head, options);
      dispose(hidden);
      if (saved === null) return { lossSum };
      const gradient = concat(gradientChunks, 0);
      dispose(gradientChunks);
      this.#model.backward(gradient, saved);
      return { lossSum };
    });
  }

  metrics(losses: readonly BatchLoss[]): Pick<Evaluation, 'loss' | 'perplexity' | 'accuracy'> {
    const loss = meanLoss(losses);
    const perplexity = Math.exp(loss);
    return { loss, perplexity: Number.isFinite(perplexity) ? perplexity : null, accuracy: null };
  }
}
