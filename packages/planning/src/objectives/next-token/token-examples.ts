import { type ExampleSide, StoredSide } from '../../example-file/example-side.js';
import type { EncodedRow } from './encode-segments.js';

/** Sequences of tokens, each predicted from those before it. */
export interface TokenExamples extends ExampleSide {
  kind: 'next-token';
  /**
   * `ids`: `[tokens]`. `trained`: `[tokens]` 1 where the token is a target of the loss; never 1 at the first: nothing
   * predicts it.
   */
  sequence(index: number): { ids: Int32Array; trained: Uint8Array };
}

export class StoredTokens extends StoredSide implements TokenExamples {
  readonly kind = 'next-token';

  sequence(index: number): EncodedRow {
    return sequenceOfWords(this.words(index));
  }
}

/** The sign of a token's word says that it is a target of the loss; ids are far smaller than 2^31. */
const TRAINED = 0x80000000;

/** A sequence in words of 4 bytes, one for each token. */
export function wordsOfSequence({ ids, trained }: EncodedRow): Int32Array {
  return ids.map((id, token) => (trained[token] === 1 ? id | TRAINED : id));
}

function sequenceOfWords(words: Int32Array): EncodedRow {
  return { ids: words.map((word) => word & ~TRAINED), trained: Uint8Array.from(words, (word) => word >>> 31) };
}
