import type { ComparisonRow } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { outcomeOf, resultOf } from './comparison-result.js';

type Prefers = 'a' | 'b' | 'tie';

function rowOf(first: Prefers | null, second: Prefers | null, changes: Partial<ComparisonRow> = {}): ComparisonRow {
  const verdictOf = (prefers: Prefers | null) => (prefers === null ? null : { prefers, text: '', tokens: 3 });
  const verdicts = [verdictOf(first), verdictOf(second)];
  return {
    ...{ number: 1, line: 1, prompt: '', reference: null, error: null, verdicts, outcome: outcomeOf(verdicts) },
    answers: [
      { text: 'x', tokens: 2, is_cut: false },
      { text: 'y', tokens: 5, is_cut: false },
    ],
    ...changes,
  };
}
const times = (count: number, row: ComparisonRow) => Array<ComparisonRow>(count).fill(row);
const failed = (error: string) => rowOf(null, null, { outcome: 'failed', error, answers: [null, null] });

test('a row is won if both orders agree, and otherwise a tie', () => {
  const outcomes = (['a', 'b', 'tie'] as const).map((first) =>
    (['a', 'b', 'tie'] as const).map((second) => rowOf(first, second).outcome),
  );
  expect(outcomes).toEqual([
    ['win', 'tie', 'tie'],
    ['tie', 'loss', 'tie'],
    ['tie', 'tie', 'tie'],
  ]);
});

test('wins, losses, ties, tokens and failures are counted', () => {
  const rows = [
    ...times(3, rowOf('a', 'a')),
    rowOf('b', 'b'),
    rowOf('a', 'b'),
    rowOf('b', 'a'),
    rowOf('a', 'tie'),
    rowOf(null, null),
    ...times(2, failed('it hangs')),
    failed('no prompt'),
  ];
  expect(resultOf(rows)).toMatchObject({
    ...{ rows: 8, wins: 3, losses: 1, ties: 4, identical: 1, failed: 3, win_rate: 5 / 8 },
    ...{ order_decided: 2, position_bias: 2 / 7, verdict: 'undecided' },
    tokens: { answers: [16, 40], judge: 42 },
    failures: [
      { reason: 'it hangs', rows: 2 },
      { reason: 'no prompt', rows: 1 },
    ],
  });
});

// From an implementation of the formula in Python.
test.each([
  [8, 2, 0, 0.4901625, 0.9433178],
  [15, 5, 0, 0.5312991, 0.8881383],
  [10, 0, 0, 0.7224672, 1],
  [0, 10, 0, 0, 0.2775328],
])('the interval of %i wins and %i losses is that of Wilson', (wins, losses, ties, low, high) => {
  const { interval } = resultOf([
    ...times(wins, rowOf('a', 'a')),
    ...times(losses, rowOf('b', 'b')),
    ...times(ties, rowOf('tie', 'tie')),
  ]);
  expect(interval![0]).toBeCloseTo(low, 4);
  expect(interval![1]).toBeCloseTo(high, 4);
});

test('ties draw the win rate and its interval to one half, and never change on which side of it they are', () => {
  const without = resultOf([...times(15, rowOf('a', 'a')), ...times(5, rowOf('b', 'b'))]);
  const tied = resultOf([
    ...times(15, rowOf('a', 'a')),
    ...times(5, rowOf('b', 'b')),
    ...times(80, rowOf('tie', 'tie')),
  ]);
  expect([without.verdict, tied.verdict]).toEqual(['a', 'a']);
  expect(tied.win_rate).toBeCloseTo(0.55, 10);
  expect(tied.interval![0]! - 0.5).toBeCloseTo((without.interval![0]! - 0.5) / 5, 10);
  expect(tied.interval![0]).toBeLessThan(0.55);
  expect(tied.interval![1]).toBeGreaterThan(0.55);
});

test('it is undecided where the interval has one half in it, where all are ties, and without rows', () => {
  expect(resultOf([...times(8, rowOf('a', 'a')), ...times(2, rowOf('b', 'b'))]).verdict).toBe('undecided');
  expect(resultOf(times(10, rowOf('b', 'b'))).verdict).toBe('b');
  expect(resultOf(times(9, rowOf('a', 'b')))).toMatchObject({
    ...{ ties: 9, win_rate: 0.5, interval: null, verdict: 'undecided', position_bias: 1 },
  });
  expect(resultOf([])).toMatchObject({ win_rate: null, interval: null, verdict: 'undecided', position_bias: null });
});
