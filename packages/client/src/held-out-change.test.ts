import { expect, test } from 'vitest';
import { worseOnHeldOutRows, worseText } from './held-out-change.js';

const at = (step: number, loss: number) => ({ step, loss });
const text = (value: number) => String(value);

test('a loss that rose is worse, and says when it was best', () => {
  const worse = worseOnHeldOutRows([at(0, 0.69), at(10, 0.5), at(20, 10.7)])!;
  expect(worse).toEqual({ before: at(0, 0.69), after: at(20, 10.7), best: at(10, 0.5) });
  expect(worseText(worse, text)).toBe(
    'The held-out loss rose from 0.69 to 10.7: the adapter is worse than its base model on rows that it has not seen. It was best after step 10 (0.5): train fewer steps, or set training.publish to best.',
  );
});

test('a loss that was never better asks for a lower learning rate', () => {
  const worse = worseOnHeldOutRows([at(0, 0.69), at(20, 10.7)])!;
  expect(worseText(worse, text)).toContain('Lower the learning rate');
});

test('the state that was published counts', () => {
  const evaluations = [at(0, 0.69), at(10, 0.5), at(20, 10.7)];
  expect(worseOnHeldOutRows(evaluations, 10)).toBeNull();
  expect(worseOnHeldOutRows(evaluations, 20)).not.toBeNull();
});

test('a reward that fell is worse, in its own numbers', () => {
  const graded = (step: number, reward: number) => ({ step, loss: -reward, group: { reward } }) as never;
  const worse = worseOnHeldOutRows([graded(0, 0.5), graded(4, 0.2)])!;
  expect(worseText(worse, text)).toContain('The held-out reward fell from 0.5 to 0.2');
});

test.each([
  ['none', []],
  ['one', [at(0, 1)]],
  ['a lower one', [at(0, 1), at(5, 0.9)]],
  ['one that is the same but for rounding', [at(0, 1), at(5, 1.005)]],
  ['one after a restart, without that of the base model', [at(5, 1), at(10, 2)]],
])('evaluations with %s are not worse', (_, evaluations) => {
  expect(worseOnHeldOutRows(evaluations)).toBeNull();
});
