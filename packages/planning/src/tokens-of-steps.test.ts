import { expect, test } from 'vitest';
import { countSteps } from './count-steps.js';
import { RowOrder } from './row-order.js';
import { tokensOfSteps } from './tokens-of-steps.js';

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
