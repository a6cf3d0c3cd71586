import { createHash } from 'node:crypto';
import { objectiveOf } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { evaluationBatches, RowOrder, rowOrderOf, tokensOfSteps } from './row-order.js';
import { countSteps } from './schedule.js';

const SETTINGS = { batchSize: 3, accumulation: 2, seed: 7 };
/** 20 rows, 6 a step: 4 steps to an epoch, the last with 2 rows. */
const order = (further: Partial<typeof SETTINGS> = {}) => new RowOrder(20, { ...SETTINGS, ...further });
const rowsOf = (rows: RowOrder, step: number) => rows.rowsOf(step).microBatches.map((batch) => [...batch]);
const epochOf = (rows: RowOrder, epoch: number) =>
  [0, 1, 2, 3].flatMap((step) => rowsOf(rows, 4 * epoch + step).flat());

test('every row once per epoch, in micro-batches of the batch size; none crosses into the next epoch', () => {
  const rows = order();
  for (const epoch of [0, 1, 2]) {
    expect(epochOf(rows, epoch).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, row) => row));
  }
  expect([0, 1, 2, 3, 4].map((step) => rowsOf(rows, step).map(({ length }) => length))).toEqual([
    [3, 3],
    [3, 3],
    [3, 3],
    [2],
    [3, 3],
  ]);
});

test('each epoch has another order, and so has each seed', () => {
  const rows = order();
  expect(epochOf(rows, 1)).not.toEqual(epochOf(rows, 0));
  expect(epochOf(order({ seed: 8 }), 0)).not.toEqual(epochOf(rows, 0));
  expect(epochOf(rows, 0)).not.toEqual(Array.from({ length: 20 }, (_, row) => row));
});

test('of some examples, all epochs have one order, which the seed draws', () => {
  const one = rowOrderOf(
    { kind: 'labelled', count: 20 },
    { training: { batch_size: 3, gradient_accumulation_steps: 2, seed: 7 } },
  );
  expect(epochOf(one, 0)).toEqual(epochOf(order(), 0));
  expect(epochOf(one, 2)).toEqual(epochOf(one, 0));
  const other = rowOrderOf(
    { kind: 'preference', count: 20 },
    { training: { batch_size: 3, gradient_accumulation_steps: 2, seed: 7 } },
  );
  expect(epochOf(other, 2)).toEqual(epochOf(order(), 2));
});

test('the position follows from the step alone: each step gives the same in any order', () => {
  const inTurn = order();
  const steps = Array.from({ length: 12 }, (_, step) => rowsOf(inTurn, step));
  for (const step of [11, 5, 0, 7]) expect(rowsOf(order(), step)).toEqual(steps[step]);
  const backwards = order();
  for (const step of [9, 2, 6]) expect(rowsOf(backwards, step)).toEqual(steps[step]);
});

test('rows come in the same order in every release', () => {
  const rows = order();
  expect([0, 3, 4, 9].map((step) => rowsOf(rows, step))).toEqual([
    [
      [1, 5, 7],
      [13, 15, 18],
    ],
    [[11, 9]],
    [
      [3, 4, 6],
      [2, 11, 5],
    ],
    [
      [7, 19, 12],
      [4, 1, 5],
    ],
  ]);
  const many = new RowOrder(100_003, { batchSize: 8, accumulation: 1, seed: 42 });
  const hash = createHash('sha256');
  for (let step = 0; step < 2 * 12_501; step++) {
    for (const batch of many.rowsOf(step).microBatches) hash.update(Buffer.from(Int32Array.from(batch).buffer));
  }
  expect(hash.digest('hex')).toBe('5a3141becbc9086fa935585a85f2e2aa27f79089ad20269da6141f82fd5198bf');
});

test('how rows are cut into micro-batches does not change which rows a step has', () => {
  const cut = order({ batchSize: 1, accumulation: 6 });
  const whole = order({ batchSize: 6, accumulation: 1 });
  for (const step of [0, 3, 5]) {
    expect(rowsOf(cut, step).flat()).toEqual(rowsOf(whole, step).flat());
    expect(rowsOf(whole, step)).toHaveLength(1);
  }
});

test('epochs done at the end of a step', () => {
  const rows = order();
  expect([0, 2, 3, 4, 7].map((step) => rows.rowsOf(step).epoch)).toEqual([0.3, 0.9, 1, 1.3, 2]);
});

test('fewer rows than a step takes', () => {
  const rows = new RowOrder(2, SETTINGS);
  expect(rowsOf(rows, 0).flat().sort()).toEqual([0, 1]);
  expect(rows.rowsOf(4).epoch).toBe(5);
});

test('several updates from the same answers have the same examples', () => {
  const grader = { type: 'regex' as const, pattern: 'a' };
  const objective = objectiveOf({ kind: 'group-relative', grader, updates_per_batch: 3 });
  const training = { batch_size: 3, gradient_accumulation_steps: 2, seed: 7 };
  const rows = rowOrderOf({ kind: 'group-relative', count: 20 }, { training, objective });
  for (let step = 0; step < 24; step++) expect(rows.rowsOf(step)).toEqual(order().rowsOf(Math.floor(step / 3)));
});

const LENGTHS = Array.from({ length: 23 }, (_, index) => 1 + ((index * 7) % 40));
const EXAMPLES = {
  kind: 'next-token' as const,
  count: LENGTHS.length,
  tokens: LENGTHS.reduce((sum, length) => sum + length, 0),
  lengthOf: (index: number) => LENGTHS[index]!,
};

test.each([
  [{ epochs: 3 }],
  [{ epochs: 0.5 }],
  [{ epochs: 2.3 }],
  [{ epochs: 1, max_steps: 1 }],
  [{ epochs: 1, max_steps: 17 }],
  [{ epochs: 1, max_steps: 5, gradient_accumulation_steps: 3 }],
])('are those of the rows that the steps of %j read', (changes) => {
  const settings = {
    batch_size: 4,
    gradient_accumulation_steps: 1,
    max_steps: null,
    warmup_ratio: 0,
    seed: 9,
    ...changes,
  };
  const steps = countSteps(EXAMPLES.count, settings);
  const order = new RowOrder(EXAMPLES.count, {
    batchSize: 4,
    accumulation: settings.gradient_accumulation_steps,
    seed: 9,
  });
  let read = 0;
  for (let step = 0; step < steps.total; step++) {
    for (const index of order.rowsOf(step).microBatches.flatMap((rows) => [...rows])) read += LENGTHS[index]!;
  }
  expect(tokensOfSteps(EXAMPLES, { training: settings }, steps)).toBe(read);
});

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
