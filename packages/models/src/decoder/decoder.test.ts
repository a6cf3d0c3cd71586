import { chooseKernels, liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { TINY_ARCHITECTURE, tinyDecoder } from '../../test/tiny-decoder.js';
import { tokenBatchOf } from '../token-batch.js';
import type { Decoder } from './decoder.js';

const kernels = chooseKernels('raw');

/** Tokens 0, 7, 14, … of the vocabulary, from another one for each row; the first `prompt` are not trained. */
function rowOf(length: number, prompt: number, first: number) {
  return {
    ids: Int32Array.from({ length }, (_, i) => (first + 7 * i) % TINY_ARCHITECTURE.vocabSize),
    trained: Uint8Array.from({ length }, (_, i) => Number(i >= prompt)),
  };
}

const ROWS = [rowOf(9, 3, 1), rowOf(40, 20, 2), rowOf(4, 1, 3), rowOf(35, 30, 4)];

let decoder: Decoder;
beforeEach(() => {
  decoder = tinyDecoder(kernels);
});
afterEach(() => decoder.dispose());

test('a batch gives the logits of its rows, one at a time', () => {
  const { ids, rowLengths } = tokenBatchOf(ROWS);
  const logitsOf = (tokens: Int32Array, lengths: number[]) => {
    return scope(() => toFloat32Array(decoder.logits({ ids: tokens, rowLengths: lengths })));
  };
  const together = logitsOf(ids, rowLengths);
  let start = 0;
  for (const length of rowLengths) {
    const own = together.subarray(start * TINY_ARCHITECTURE.vocabSize, (start + length) * TINY_ARCHITECTURE.vocabSize);
    expect(greatestDifference(logitsOf(ids.slice(start, start + length), [length]), own)).toBeLessThan(1e-5);
    start += length;
  }
});

test('disposing frees every weight', () => {
  const before = liveTensorCount();
  const model = tinyDecoder(kernels, 'bfloat16', 2);
  expect(liveTensorCount()).toBeGreaterThan(before);
  model.dispose();
  expect(liveTensorCount()).toBe(before);
});
