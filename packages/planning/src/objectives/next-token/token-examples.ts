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
  const words = new Int32Array(ids.length);
  for (let token = 0; token < ids.length; token++) words[token] = ids[token]! | (trained[token] === 1 ? TRAINED : 0);
  return words;
}

export function isTrainedWord(word: number): boolean {
  return word < 0;
}

/** The words may be a piece of a row: its first token is no target then, although it is one in the row. */
export function sequenceOfWords(words: Int32Array): EncodedRow {
  const ids = new Int32Array(words.length);
  const trained = new Uint8Array(words.length);
  for (let token = 0; token < words.length; token++) {
    ids[token] = words[token]! & ~TRAINED;
    trained[token] = words[token]! >>> 31;
  }
  trained[0] = 0;
  return { ids, trained };
}
