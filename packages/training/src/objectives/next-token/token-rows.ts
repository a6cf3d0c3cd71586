import { type RowsAlike, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import type { TokenExamples } from '@lorasmith/planning';

/** Rows of tokens to train or to evaluate on, as batches have them. */
export class TokenRows {
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
