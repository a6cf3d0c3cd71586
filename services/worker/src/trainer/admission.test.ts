import { describe, expect, test } from 'vitest';
import { capacityOf, generatableModel, mayBegin, mayContinue, type PoolRun, type PoolState } from './admission.js';

const FORM = { precision: 'float32' as const, quantization: 'none' as const };
const ONE = { baseModel: 'one', ...FORM };
const TWO = { baseModel: 'two', ...FORM };
const QUANTIZED = { ...ONE, quantization: 'nf4' as const };
const aRun = (number: number, changes: Partial<PoolRun> = {}): PoolRun => ({
  number,
  base: ONE,
  state: 'running',
  ...changes,
});
const aState = (runs: PoolRun[], changes: Partial<PoolState> = {}): PoolState => ({
  isClosed: false,
  runs,
  limit: 2,
  firstSuspect: null,
  isDeferring: false,
  trainer: { base: ONE, isFit: true, slots: runs.length },
  ...changes,
});
const asSet = <Setting>(setting: Setting) => setting;

describe('the appetite', () => {
  test('is for any job without a run, and for the base of the runs otherwise', () => {
    const only = { precisions: ['float32'], quantization: 'none' };
    expect(capacityOf(aState([]), asSet)).toEqual({ isIdle: true, baseModel: 'one', ...only });
    const second = aState([aRun(1, { base: TWO })]);
    expect(capacityOf(second, asSet)).toEqual({ isIdle: false, baseModel: 'two', ...only });
    const quantized = aState([aRun(1, { base: QUANTIZED })]);
    expect(capacityOf(quantized, asSet)).toMatchObject({ baseModel: 'one', quantization: 'nf4' });
  });

  test.each<[string, PoolState]>([
    ['the pool is closed', aState([], { isClosed: true })],
    ['it has as many runs as it may', aState([aRun(1), aRun(2)])],
    ['a run is suspected', aState([aRun(1)], { firstSuspect: 1 })],
    ['a run was deferred and others still run', aState([aRun(1)], { isDeferring: true })],
    ['its runs have two base models', aState([aRun(1), aRun(2, { base: TWO })], { limit: 8 })],
    ['its runs have one in two forms', aState([aRun(1), aRun(2, { base: QUANTIZED })], { limit: 8 })],
  ])('is for nothing while %s', (_, state) => {
    expect(capacityOf(state, asSet)).toBeNull();
  });

  test('is for every setting that is trained in the precision in memory', () => {
    const auto = { ...ONE, precision: 'auto' as const };
    const state = aState([aRun(1, { base: auto })]);
    expect(capacityOf(state, (setting) => (setting === 'bfloat16' ? setting : 'auto'))?.precisions).toEqual([
      'auto',
      'float32',
    ]);
  });
});

describe('a waiting run', () => {
  const waiting = aRun(2, { state: 'waiting' });

  test('begins beside others, but does not pass one that waits for another base model', () => {
    expect(mayBegin(waiting, aState([aRun(1), waiting]))).toBe(true);
    const before = aRun(1, { state: 'waiting', base: TWO });
    expect(mayBegin(waiting, aState([before, waiting]))).toBe(false);
    expect(mayBegin(before, aState([before, waiting]))).toBe(true);
  });

  test('waits for the suspect, which begins once the trainer has nothing else', () => {
    const state = aState([waiting, aRun(3)], { firstSuspect: 2 });
    expect(mayBegin(waiting, state)).toBe(false);
    const empty = { ...state, trainer: { ...state.trainer, slots: 0 } };
    expect(mayBegin(waiting, empty)).toBe(true);
    expect(mayBegin(waiting, { ...empty, firstSuspect: 3 })).toBe(false);
  });
});

test('a running run stops for the suspect, and where its trainer is no longer fit', () => {
  const runs = [aRun(1), aRun(2)];
  expect(runs.map((run) => mayContinue(run, aState(runs)))).toEqual([true, true]);
  expect(runs.map((run) => mayContinue(run, aState(runs, { firstSuspect: 2 })))).toEqual([false, true]);
  const unfit = aState(runs, { trainer: { base: null, isFit: false, slots: 2 } });
  expect(runs.map((run) => mayContinue(run, unfit))).toEqual([false, false]);
});

describe('text can be generated', () => {
  const idle = { base: null, isFit: true, slots: 0 };

  test('text can be generated for any base model without a run, and for that of the runs otherwise', () => {
    expect(generatableModel(aState([], { trainer: idle }))).toEqual({ baseModel: null });
    expect(generatableModel(aState([aRun(1, { base: TWO })], { trainer: idle }))).toEqual({ baseModel: 'two' });
    expect(generatableModel(aState([aRun(1)]))).toEqual({ baseModel: 'one' });
  });

  test('no text can be generated while a run waits for another base model, is suspected, or its trainer is replaced', () => {
    const waiting = aRun(2, { state: 'waiting', base: TWO });
    expect(generatableModel(aState([aRun(1), waiting]))).toBeNull();
    expect(generatableModel(aState([aRun(1)], { firstSuspect: 1 }))).toBeNull();
    expect(generatableModel(aState([aRun(1)], { trainer: { base: null, isFit: false, slots: 1 } }))).toBeNull();
    expect(generatableModel(aState([], { isClosed: true }))).toBeNull();
  });
});
