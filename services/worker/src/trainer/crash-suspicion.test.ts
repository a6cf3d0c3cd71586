import { describe, expect, test } from 'vitest';
import { firstSuspect, noSuspicion, type SuspicionEvent, suspicionAfter, suspicionChanges } from './crash-suspicion.js';

const MOST_RUNS = 8;
const after = (...events: SuspicionEvent[]) =>
  events.reduce((state, event) => suspicionAfter(state, event, MOST_RUNS), noSuspicion(MOST_RUNS));

const crashed = (run: number, step: number, concurrent: number, isFirst = false): SuspicionEvent => ({
  kind: 'crashed',
  run,
  step,
  concurrent,
  isFirst,
});
/** The trainer of runs 1 to 3 crashes, each at ten times its number. */
const CRASH = [crashed(1, 10, 2, true), crashed(2, 20, 2), crashed(3, 30, 2)];
const passed = (run: number): SuspicionEvent => ({ kind: 'stepped', run, step: run * 10 + 1 });

describe('a crash of several runs', () => {
  test('suspects each of them, and the one that was placed first has its turn', () => {
    const state = after(...CRASH);
    expect([...state.suspects]).toEqual([
      [1, 10],
      [2, 20],
      [3, 30],
    ]);
    expect(firstSuspect(state)).toBe(1);
    expect(state.limit).toBe(MOST_RUNS);
  });

  test('suspects a run until it has done one more step than it had', () => {
    const again = after(...CRASH, { kind: 'stepped', run: 1, step: 10 });
    expect(firstSuspect(again)).toBe(1);
    expect(firstSuspect(suspicionAfter(again, passed(1), MOST_RUNS))).toBe(2);
  });

  test('lowers the limit to half of the runs only where all have passed before', () => {
    expect(after(...CRASH, ...CRASH).limit).toBe(MOST_RUNS);
    const passedAll = [...CRASH, passed(1), passed(2), passed(3)];
    expect(after(...passedAll).limit).toBe(MOST_RUNS);
    expect(after(...passedAll, ...CRASH).limit).toBe(1);
    expect(after(...passedAll, crashed(1, 50, 5, true), crashed(2, 50, 5)).limit).toBe(3);
  });
});

describe('a crash of a run that is alone', () => {
  test('makes it the culprit: the others are no longer suspected', () => {
    const before = after(...CRASH);
    const state = suspicionAfter(before, crashed(1, 10, 0, true), MOST_RUNS);
    expect([...state.suspects]).toEqual([[1, 10]]);
    expect([...suspicionChanges(before, state)]).toEqual([
      [2, null],
      [3, null],
    ]);
  });

  test('has the step recorded, so that its next attempt is alone, too', () => {
    const before = after();
    expect([...suspicionChanges(before, suspicionAfter(before, crashed(4, 7, 0, true), MOST_RUNS))]).toEqual([[4, 7]]);
  });
});

test('a run that an attempt before has found suspicious is suspected from its start', () => {
  expect(firstSuspect(after({ kind: 'began', run: 5, suspectStep: 3 }))).toBe(5);
  expect(firstSuspect(after({ kind: 'began', run: 5, suspectStep: null }))).toBeNull();
});

test('a run that has left is not suspected, and the limit is restored once none is left', () => {
  const lowered = [...CRASH, passed(1), passed(2), passed(3), ...CRASH];
  const left = after(...lowered, { kind: 'left', run: 1, remaining: 2 });
  expect([firstSuspect(left), left.limit]).toEqual([2, 1]);
  expect(suspicionAfter(left, { kind: 'left', run: 2, remaining: 0 }, MOST_RUNS)).toEqual(noSuspicion(MOST_RUNS));
});
