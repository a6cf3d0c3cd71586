import type { JobStatus, Sweep, SweepRung, SweepVariant, VariantValues } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import {
  bestFirst,
  distinctValues,
  fieldAxis,
  mayResume,
  metricAxis,
  nextRung,
  rungText,
  twiceAsLong,
  valueColors,
  variantText,
  variedFields,
  waitsAtStep,
} from './sweep-variants.js';

const JOB = { base_model: 'tiny', dataset: 'ds_0123456789abcdef01234567', validation: { split: 0.1 } };

function variantOf(variant: number, values: VariantValues = {}, changes: Partial<SweepVariant> = {}): SweepVariant {
  const job = `job_${String(variant).padStart(24, '0')}`;
  return {
    variant,
    values,
    job,
    status: 'running',
    progress: null,
    metric: null,
    step: null,
    rank: null,
    adapter: null,
    error: null,
    ...changes,
  };
}

function sweepOf(variants: SweepVariant[], changes: Partial<Sweep> = {}): Sweep {
  const space = Object.fromEntries(Object.keys(variants[0]!.values).map((path) => [path, { values: [1] }]));
  return {
    id: 'swp_0123456789abcdef01234567',
    object: 'sweep',
    owner: null,
    name: null,
    status: 'running',
    base_model: JOB.base_model,
    dataset: JOB.dataset,
    metric: 'loss',
    direction: 'min',
    request: { job: JOB, space },
    variants,
    rungs: [],
    best: null,
    created_at: '2026-01-01T00:00:00.000Z',
    ended_at: null,
    ...changes,
  };
}

const rung = (step: number, kept: number[], stopped: number[]): SweepRung => {
  return { step, kept, stopped, decided_at: '2026-01-01T00:00:00.000Z' };
};
const halving = { job: JOB, space: { 'lora.r': { values: [1, 2, 3, 4] } }, halving: { first_steps: 10 } };

test('only fields that differ are shown, with the names of the form', () => {
  const sweep = sweepOf([
    variantOf(1, { 'lora.r': 4, 'lora.alpha': 8 }),
    variantOf(2, { 'lora.r': 8, 'lora.alpha': 8 }),
  ]);
  const fields = variedFields(sweep);
  expect(fields).toEqual([{ path: 'lora.r', label: 'Rank (r)', shortName: 'r' }]);
  expect(variantText(fields, sweep.variants[1]!)).toBe('#2: r 8');
  expect(variedFields(sweepOf([variantOf(1, { 'lora.r': 4 })])).map(({ path }) => path)).toEqual(['lora.r']);
});

test('twice as long is twice the steps where they are set, else twice the epochs', () => {
  const requestOf = (training: object) =>
    sweepOf([variantOf(1)], { request: { job: { ...JOB, training }, space: {} } });
  expect(twiceAsLong(requestOf({ max_steps: 30, epochs: 2 }), {})).toEqual({ 'training.max_steps': '60' });
  expect(twiceAsLong(requestOf({ max_steps: 30 }), { 'training.max_steps': 50 })).toEqual({
    'training.max_steps': '100',
  });
  expect(twiceAsLong(requestOf({ epochs: 2 }), { 'training.epochs': 1 })).toEqual({ 'training.epochs': '2' });
  expect(twiceAsLong(requestOf({ epochs: 2 }), {})).toEqual({ 'training.epochs': '4' });
  expect(Number(twiceAsLong(requestOf({}), {})['training.epochs'])).toBeGreaterThan(0);
});

test('a variant waits at the next rung, and nowhere else', () => {
  const waiting = variantOf(1, { 'lora.r': 1 }, { status: 'paused', step: 10 });
  const training = variantOf(2, { 'lora.r': 2 }, { step: 0 });
  const paused = variantOf(3, { 'lora.r': 3 }, { status: 'paused', step: 0 });
  const sweep = sweepOf([waiting, training, paused], { request: halving });
  expect(nextRung(sweep)).toEqual({ step: 10, left: [1, 2, 3] });
  expect(sweep.variants.map((one) => waitsAtStep(sweep, one))).toEqual([10, null, null]);
  expect(waitsAtStep(sweepOf([waiting, training]), waiting)).toBeNull();
  const decided = sweepOf([waiting, training, paused], { request: halving, rungs: [rung(10, [1, 2], [3])] });
  expect(nextRung(decided)).toEqual({ step: 20, left: [1, 2] });
  expect(waitsAtStep(decided, waiting)).toBeNull();
  expect(nextRung({ ...decided, rungs: [rung(10, [1, 2], [3]), rung(20, [2], [1])] })).toBeNull();
});

test('a paused job is offered to resume, unless it waits at a rung or that is not known yet', () => {
  const variants = [variantOf(1, {}, { status: 'paused', step: 10 }), variantOf(2, {}, { status: 'paused', step: 3 })];
  const sweep = sweepOf(variants, { request: halving });
  const jobOf = (variant: number, status: JobStatus = 'paused') => ({ status, sweep: { id: sweep.id, variant } });
  expect(mayResume({ status: 'paused' }, null)).toBe(true);
  expect(mayResume(jobOf(1), sweep)).toBe(false);
  expect(mayResume(jobOf(2), sweep)).toBe(true);
  expect(mayResume(jobOf(2), undefined)).toBe(false);
  expect(mayResume(jobOf(1), null)).toBe(true);
  expect(mayResume(jobOf(1, 'cancelled'), sweep)).toBe(true);
});

test('the rungs of a variant as text', () => {
  const variants = [1, 2, 3, 4].map((variant) => variantOf(variant, {}, { status: 'paused', step: 20 }));
  const sweep = sweepOf(variants, { request: halving, rungs: [rung(10, [1, 2], [3, 4])] });
  expect(variants.map((one) => rungText(sweep, one))).toEqual([
    'went on at 10, waits at 20',
    'went on at 10, waits at 20',
    'stopped at 10',
    'stopped at 10',
  ]);
  expect(rungText(sweepOf(variants), variants[0]!)).toBe('');
});

test('the best come first: by rank, then rungs, then the metric so far', () => {
  const numbers = (sweep: Sweep) => bestFirst(sweep).map(({ variant }) => variant);
  const metrics = [null, 0.3, 0.2, 0.4].map((metric, index) => variantOf(index + 1, {}, { metric }));
  expect(numbers(sweepOf(metrics))).toEqual([3, 2, 4, 1]);
  expect(numbers(sweepOf(metrics, { direction: 'max' }))).toEqual([4, 2, 3, 1]);
  expect(numbers(sweepOf(metrics, { rungs: [rung(10, [2, 4], [1, 3])] }))).toEqual([2, 4, 3, 1]);
  const ranked = metrics.map((one) => ({ ...one, rank: one.variant === 4 ? 1 : null }));
  expect(numbers(sweepOf(ranked))).toEqual([4, 3, 2, 1]);
});

test('different values: numbers ascending, others in their order', () => {
  expect(distinctValues([16, 4, 16, 8])).toEqual([4, 8, 16]);
  expect(distinctValues([null, 1, null])).toEqual([null, 1]);
  expect(distinctValues([['q_proj'], 'all-linear', ['q_proj']])).toEqual([['q_proj'], 'all-linear']);
});

test('a field of numbers has a linear axis, or a logarithmic one where they differ by factors', () => {
  const linear = fieldAxis('Dropout', [0, 0.1, 0.05]);
  expect([0, 0.05, 0.1].map(linear.at)).toEqual([0, 0.5, 1]);
  const logarithmic = fieldAxis('Rank', [4, 16, 8]);
  expect(logarithmic.at(8)).toBeCloseTo(0.5, 12);
  expect(logarithmic.ticks.map(({ text }) => text)).toEqual(['4', '8', '16']);
});

test('other values stand at even distances, and a single one in the middle', () => {
  const axis = fieldAxis('Schedule', ['linear', 'cosine', 'constant']);
  expect(['linear', 'cosine', 'constant'].map(axis.at)).toEqual([0, 0.5, 1]);
  expect(fieldAxis('Rank', [8]).ticks).toEqual([{ text: '8', at: 0.5 }]);
});

test('an axis of many values has three ticks', () => {
  const axis = fieldAxis('Seed', [1, 2, 3, 4, 5, 6, 7]);
  expect(axis.ticks.map(({ text }) => text)).toEqual(['1', '4', '7']);
});

test('the axis of a metric reaches from its least to its greatest value', () => {
  const axis = metricAxis('Loss', [0.4, 0.2, 0.3]);
  expect(axis.ticks.map(({ text, at }) => [text, Math.round(100 * at)])).toEqual([
    ['0.2', 0],
    ['0.3', 50],
    ['0.4', 100],
  ]);
  expect(metricAxis('Loss', [0.2]).ticks).toEqual([{ text: '0.2', at: 0.5 }]);
});

test('each value has a colour, and neighbours share one where there are more values than colours', () => {
  const few = valueColors([8, 4, 8]);
  expect(few.groups).toEqual([
    { color: 1, text: '4' },
    { color: 2, text: '8' },
  ]);
  expect(few.colorOf(8)).toBe(2);
  const many = valueColors([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(many.groups.map(({ text }) => text)).toEqual(['1 to 2', '3', '4 to 5', '6', '7 to 8', '9']);
  expect(many.groups.map(({ color }) => color)).toEqual([1, 2, 3, 4, 5, 6]);
});
