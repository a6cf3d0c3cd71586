import { expect, test } from 'vitest';
import { evaluationBatches } from './evaluation-batches.js';

const PASS_TOKENS = 1024;

/** The examples of each micro-batch, of examples with these lengths. */
const batchesOf = (lengths: readonly number[], batchSize: number) => [
  ...evaluationBatches(
    { kind: 'next-token', count: lengths.length, lengthOf: (index) => lengths[index]! },
    { training: { batch_size: batchSize } },
    PASS_TOKENS,
  ),
];

test('short examples fill a pass, in their order', () => {
  const half = PASS_TOKENS / 2;
  expect(batchesOf([half, half, half, 10, 20], 1)).toEqual([
    [0, 1],
    [2, 3, 4],
  ]);
});

test('a micro-batch has as many examples as one of the training, however long they are', () => {
  const long = Array<number>(5).fill(2 * PASS_TOKENS);
  expect(batchesOf(long, 2)).toEqual([[0, 1], [2, 3], [4]]);
});

test('an example that is longer than a pass is alone where training has it alone', () => {
  expect(batchesOf([10, 2 * PASS_TOKENS, 10, 10], 1)).toEqual([[0], [1], [2, 3]]);
});
