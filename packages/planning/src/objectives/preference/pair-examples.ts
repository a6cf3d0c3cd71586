import { type Examples, type SideSource, StoredSide } from '../../example-file/examples.js';
import type { EncodedRow } from '../next-token/encode-segments.js';
import { codesOfSequence, sequenceOfCodes } from '../next-token/token-examples.js';

/** A prompt with each of its two answers, as tokens. Targets of the loss are the tokens of the answers. */
export interface TokenPair {
  chosen: EncodedRow;
  rejected: EncodedRow;
}

/** Pairs of answers, for any objective of them. The length of an example is that of both sequences together. */
export interface PairExamples<Kind extends string = 'preference'> extends Examples {
  readonly kind: Kind;
  pair(index: number): TokenPair;
}

export class StoredPairs<Kind extends string> extends StoredSide implements PairExamples<Kind> {
  readonly kind: Kind;

  constructor(source: SideSource, kind: Kind) {
    super(source);
    this.kind = kind;
  }

  pair(index: number): TokenPair {
    return pairOfCodes(this.codes(index));
  }
}

/** Marks the code with which the second sequence begins; ids are far smaller than 2^30. */
const SECOND = 0x40000000;

/**
 * A pair in codes of 4 bytes: the first sequence from its end to its beginning, then the second. So both, cut to the same length, are a
 * piece of the codes.
 */
export function codesOfPair({ chosen, rejected }: TokenPair): Int32Array {
  const codes = new Int32Array(chosen.ids.length + rejected.ids.length);
  codes.set(codesOfSequence(chosen).reverse());
  codes.set(codesOfSequence(rejected), chosen.ids.length);
  codes[chosen.ids.length]! |= SECOND;
  return codes;
}

/** The length of the first sequence. */
export function lengthOfFirst(codes: Int32Array): number {
  return codes.findIndex((code) => (code & SECOND) !== 0);
}

export function pairOfCodes(codes: Int32Array): TokenPair {
  const middle = lengthOfFirst(codes);
  const second = codes.slice(middle);
  second[0]! &= ~SECOND;
  return { chosen: sequenceOfCodes(codes.slice(0, middle).reverse()), rejected: sequenceOfCodes(second) };
}

/** Tokens of the longer of the two sequences. */
export function longerOf(codes: Int32Array): number {
  const first = lengthOfFirst(codes);
  return Math.max(first, codes.length - first);
}
