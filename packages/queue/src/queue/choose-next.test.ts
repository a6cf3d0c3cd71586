import type { JobId } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { type Chooser, chooseNext, type KnownJob, type LeasedJob } from './choose-next.js';
import type { QueueEntry } from './queue-entry.js';

const TURN_MS = 1_000;

const entry = (changes: Partial<QueueEntry> = {}): QueueEntry => ({
  key: 'a',
  base_model: 'one',
  precision: 'auto',
  base_quantization: 'none',
  place: 1,
  queued_at: 0,
  tokens: null,
  seconds: null,
  memory: null,
  ...changes,
});
const waiting = (id: string, changes: Partial<QueueEntry> = {}): KnownJob => ({
  bullId: id,
  id: id as JobId,
  entry: entry(changes),
});
const leased = (id: string, changes: Partial<LeasedJob> = {}): LeasedJob => ({
  id: id as JobId,
  entry: entry(),
  since: 0,
  isPausing: false,
  ...changes,
});
const worker = (changes: Partial<Chooser> = {}): Chooser => {
  const loaded = { baseModel: 'one', precisions: ['auto', 'float32'] as const, quantization: 'none' as const };
  const capacity = { ...loaded, isIdle: false };
  const memory = null;
  const nobody = { baseSince: 0, target: null, targetsOfOthers: new Set<JobId>(), warm: [] };
  return { capacity, loaded, leased: [leased('leased')], slots: 4, memory, ...nobody, ...changes };
};
const at = (now: number, ...jobs: KnownJob[]) => ({ now, usage: new Map(), waiting: jobs });

test('a job on the same base model in another form waits for its turn as one on another base model', () => {
  const quantized = waiting('quantized', { base_quantization: 'nf4' });
  expect(chooseNext(at(900, quantized), worker(), TURN_MS)).toEqual({ action: 'wait', untilMs: 1_000 });
  expect(chooseNext(at(1_000, quantized), worker(), TURN_MS)).toMatchObject({ action: 'pause', target: quantized });
  const loaded = { baseModel: 'one', precisions: ['auto'] as const, quantization: 'nf4' as const };
  const fitting = worker({ loaded, capacity: { ...loaded, isIdle: false } });
  expect(chooseNext(at(900, quantized), fitting, TURN_MS)).toMatchObject({ action: 'take', waiting: quantized });
});

test('a job that must start alone waits while others run, for a turn; then they make way', () => {
  const alone = waiting('alone', { starts_alone: true });
  const behind = waiting('behind', { place: 2 });
  expect(chooseNext(at(900, alone, behind), worker(), TURN_MS)).toMatchObject({ action: 'take', waiting: behind });
  expect(chooseNext(at(900, alone), worker(), TURN_MS)).toEqual({ action: 'wait', untilMs: 1_000 });
  expect(chooseNext(at(1_000, alone, behind), worker(), TURN_MS)).toMatchObject({ action: 'pause', target: alone });
  // While they stop, nothing else gets their places; then it is taken, although the other would fit, too.
  const target = { target: alone.id };
  const stopping = worker({ ...target, leased: [leased('leased', { isPausing: true })] });
  const urgent = waiting('urgent', { place: 0, queued_at: 1_001 });
  expect(chooseNext(at(1_001, alone, urgent), stopping, TURN_MS).action).toBe('wait');
  const idle = worker({ ...target, leased: [], capacity: { ...worker().capacity!, isIdle: true } });
  expect(chooseNext(at(1_002, alone, urgent), idle, TURN_MS)).toMatchObject({ action: 'take', waiting: alone });
});

test('treats another precision as another base model', () => {
  const other = waiting('other', { precision: 'bfloat16' });
  expect(chooseNext(at(10, other), worker(), TURN_MS).action).toBe('wait');
  expect(chooseNext(at(10, waiting('same', { precision: 'float32' })), worker(), TURN_MS).action).toBe('take');
  expect(chooseNext(at(2_000, other), worker(), TURN_MS).action).toBe('pause');
});

test('leaves a job to the worker that paused for it', () => {
  const other = waiting('other', { precision: 'bfloat16' });
  expect(chooseNext(at(2_000, other), worker({ targetsOfOthers: new Set([other.id]) }), TURN_MS).action).toBe('wait');
});

test('a retry is not taken before its time; a worker that can take nothing takes nothing', () => {
  const retry = waiting('retry', { not_before: 500 });
  expect(chooseNext(at(400, retry), worker(), TURN_MS)).toEqual({ action: 'wait', untilMs: 500 });
  expect(chooseNext(at(500, retry), worker(), TURN_MS).action).toBe('take');
  expect(chooseNext(at(500, retry), worker({ capacity: null }), TURN_MS).action).toBe('wait');
});

test('a job that needs more memory than the machine has is left to others, also where it is the next one', () => {
  const large = waiting('large', { memory: 80e9, place: 0 });
  const small = waiting('small', { memory: 20e9 });
  const idle = { isIdle: true, baseModel: null, precisions: [], quantization: 'none' as const };
  const card = (memory: number | null) => worker({ memory, leased: [], loaded: null, capacity: idle });
  expect(chooseNext(at(10, large, small), card(24e9), TURN_MS)).toMatchObject({ action: 'take', waiting: small });
  expect(chooseNext(at(10, large), card(24e9), TURN_MS)).toEqual({ action: 'wait', untilMs: null });
  expect(chooseNext(at(10, large, small), card(80e9), TURN_MS)).toMatchObject({ action: 'take', waiting: large });
  // Where the machine was not measured, its trainer finds out.
  expect(chooseNext(at(10, large), card(null), TURN_MS)).toMatchObject({ action: 'take', waiting: large });
  expect(chooseNext(at(10, waiting('unplanned')), card(24e9), TURN_MS).action).toBe('take');
  // Nothing is paused for it either.
  const other = waiting('large', { memory: 80e9, base_model: 'two' });
  expect(chooseNext(at(9_000, other), worker({ memory: 24e9 }), TURN_MS)).toEqual({ action: 'wait', untilMs: null });
});

test('a new job is left for a moment to a worker that has its base in memory and a free place', () => {
  const idle = { isIdle: true, baseModel: 'two', precisions: ['auto'] as const, quantization: 'none' as const };
  const base = { baseModel: 'one', precisions: ['auto'] as const, quantization: 'none' as const };
  const other = { base, isIdle: true, memory: null };
  const cold = (...warm: Chooser['warm']) => worker({ leased: [], loaded: null, capacity: idle, warm });
  const job = waiting('job', { queued_at: 100 });
  // A twentieth of a turn, where that is shorter than two seconds.
  expect(chooseNext(at(149, job), cold(other), TURN_MS)).toEqual({ action: 'wait', untilMs: 150 });
  expect(chooseNext(at(150, job), cold(other), TURN_MS)).toMatchObject({ action: 'take', waiting: job });
  expect(chooseNext(at(2_099, job), cold(other), 600_000)).toEqual({ action: 'wait', untilMs: 2_100 });
  expect(chooseNext(at(2_100, job), cold(other), 600_000)).toMatchObject({ action: 'take', waiting: job });
  // What nobody has in memory, or only in another form, or where there is no space, is taken at once; so is the next one in order.
  const behind = waiting('behind', { base_model: 'three', queued_at: 100, place: 2 });
  expect(chooseNext(at(100, job, behind), cold(other), TURN_MS)).toMatchObject({ action: 'take', waiting: behind });
  const takesAtOnce = (one: KnownJob, warm: Chooser['warm'][number]) =>
    expect(chooseNext(at(100, one), cold(warm), TURN_MS)).toMatchObject({ action: 'take', waiting: one });
  takesAtOnce(job, { ...other, base: { ...base, baseModel: 'three' } });
  takesAtOnce(job, { ...other, base: { ...base, quantization: 'nf4' } });
  takesAtOnce(waiting('large', { queued_at: 100, memory: 80e9 }), { ...other, memory: 24e9 });
  takesAtOnce(waiting('alone', { queued_at: 100, starts_alone: true }), { ...other, isIdle: false });
  // The one that has it takes it at once.
  const warm = worker({ leased: [], loaded: null, capacity: { ...base, isIdle: true }, warm: [other] });
  expect(chooseNext(at(100, job), warm, TURN_MS)).toMatchObject({ action: 'take', waiting: job });
});
