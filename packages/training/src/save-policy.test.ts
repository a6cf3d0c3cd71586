import { expect, test } from 'vitest';
import { type SavableRun, SavePolicy } from './save-policy.js';

const MEBIBYTE = 1024 * 1024;
const run = (changes: Partial<SavableRun> = {}): SavableRun => ({
  stepsDone: 5,
  isSaved: false,
  isBest: false,
  isOver: false,
  checkpointBytes: MEBIBYTE,
  ...changes,
});
const policy = new SavePolicy(4);

test.each([
  ['between two of its steps', run(), false],
  ['every so many steps', run({ stepsDone: 8 }), true],
  ['but not before the first', run({ stepsDone: 0 }), false],
  ['at the best evaluation', run({ isBest: true }), true],
  ['at the end', run({ isOver: true }), true],
  ['but not twice', run({ isOver: true, isSaved: true }), false],
])('a checkpoint is due %s', (_, at, expected) => {
  expect(policy.isDue(at)).toBe(expected);
});

test('without an interval only the best and the last state are due', () => {
  const rare = new SavePolicy(null);
  expect([run({ stepsDone: 8 }), run({ isBest: true }), run({ isOver: true })].map((at) => rare.isDue(at))).toEqual([
    false,
    true,
    true,
  ]);
});

test.each([
  ['shutdown', 1000, true],
  ['time-limit', 1000, true],
  ['cancel', 128, true],
  ['cancel', 129, false],
  ['lost-job', 1, false],
  [undefined, 1, false],
] as const)('a stop for %s with a checkpoint of %i MiB', (reason, mebibytes, saves) => {
  const checkpointBytes = mebibytes * MEBIBYTE;
  expect(policy.isDueOnStop(run({ checkpointBytes }), reason)).toBe(saves);
  expect(policy.isDueOnStop(run({ checkpointBytes, isSaved: true }), reason)).toBe(false);
  expect(policy.isDueOnStop(run({ checkpointBytes, stepsDone: 0 }), reason)).toBe(false);
});
