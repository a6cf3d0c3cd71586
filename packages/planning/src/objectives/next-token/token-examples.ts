import { type Examples, StoredSide } from '../../example-file/examples.js';
import type { EncodedRow } from './encode-segments.js';

/** Sequences of tokens, each predicted from those before it. */
export interface TokenExamples extends Examples {
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
    return sequenceOfCodes(this.codes(index));
  }
}

/** The sign of a token's code says that it is a target of the loss; ids are far smaller than 2^31. */
const TRAINED = 0x80000000;

/** A sequence in codes of 4 bytes, one for each token. */
export function codesOfSequence({ ids, trained }: EncodedRow): Int32Array {
  const codes = new Int32Array(ids.length);
  for (let token = 0; token < ids.length; token++) codes[token] = ids[token]! | (trained[token] === 1 ? TRAINED : 0);
  return codes;
}

/** Targets of the loss in a sequence. */
export function trainedOf({ trained }: Pick<EncodedRow, 'trained'>): number {
  return trained.reduce((sum, flag) => sum + flag, 0);
}

export function isTrainedCode(code: number): boolean {
  return code < 0;
}

/** The codes may be a piece of a row: its first token is no target then, although it is one in the row. */
export function sequenceOfCodes(codes: Int32Array): EncodedRow {
  const ids = new Int32Array(codes.length);
  const trained = new Uint8Array(codes.length);
  for (let token = 0; token < codes.length; token++) {
    ids[token] = codes[token]! & ~TRAINED;
    trained[token] = codes[token]! >>> 31;
  }
  trained[0] = 0;
  return { ids, trained };
}
