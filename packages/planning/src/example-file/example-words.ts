import type { EncodedRow } from '../encode-segments.js';

/** The sign of a token's word says that it is a target of the loss; ids are far smaller than 2^31. */
const TRAINED = 0x80000000;

/** A sequence in words of 4 bytes, one for each token. */
export function wordsOfSequence({ ids, trained }: EncodedRow): Int32Array {
  return ids.map((id, token) => (trained[token] === 1 ? id | TRAINED : id));
}

export function sequenceOfWords(words: Int32Array): EncodedRow {
  return { ids: words.map((word) => word & ~TRAINED), trained: Uint8Array.from(words, (word) => word >>> 31) };
}

/** A classifier's row in words of 4 bytes: its numbers as float32, then its label. */
export function wordsOfFeatures(features: readonly number[], label: number): Int32Array {
  const words = new Int32Array(features.length + 1);
  new Float32Array(words.buffer).set(features);
  words[features.length] = label;
  return words;
}

export function featuresOfWords(words: Int32Array): { features: Float32Array; label: number } {
  const width = words.length - 1;
  return { features: new Float32Array(words.buffer, words.byteOffset, width), label: words[width]! };
}
