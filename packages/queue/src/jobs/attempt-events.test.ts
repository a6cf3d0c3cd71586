import type { GroupRelativeObjective, NewJobEvent, Report } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { JobUsage } from './job-attempts.js';

/** A report of 10 steps in 2 epochs. */
const report = (changes: Partial<Report> = {}): NewJobEvent => {
  const tokens = { per_epoch: 500, trained_per_epoch: 100, total: 1_000, validation: 0 };
  const steps = { per_epoch: 5, total: 10, warmup: 0 };
  return { type: 'report-ready', data: { report: { tokens, steps, estimate: null, ...changes } as Report } };
};

const step = (number: number, answerLength?: number): NewJobEvent => {
  const group = answerLength === undefined ? {} : { group: { 'completions/mean_length': answerLength } };
  return { type: 'step-finished', data: { step: number, ...group } } as NewJobEvent;
};

test('steps that were not recorded count with the next one, and those before a checkpoint do not', () => {
  const usage = new JobUsage({});
  const events = [report(), { type: 'checkpoint-loaded', data: { step: 3 } } satisfies NewJobEvent, step(4), step(8)];
  expect(events.map((event) => usage.tokensUntil(event))).toEqual([0, 0, 100, 400]);
});

test('of a job that samples answers, each answer counts with its prompt', () => {
  const objective = { kind: 'group-relative', group_size: 8, updates_per_batch: 1 } as GroupRelativeObjective;
  const usage = new JobUsage({ objective });
  // Of 10 prompts, a step has 2: 16 answers.
  const groups = { prompts: 10, answers_per_step: 16, most_tokens_per_step: 16 * 150 };
  expect(usage.tokensUntil(report({ groups }))).toBe(0);
  expect(usage.tokensUntil(step(1, 40))).toBe(8 * 100 + 16 * 40);
  expect(usage.tokensUntil(step(3, 25))).toBe(2 * (8 * 100 + 16 * 25));
});

test('of a job that trains on answers several times, each time counts', () => {
  const objective = { kind: 'group-relative', group_size: 8, updates_per_batch: 5 } as GroupRelativeObjective;
  const usage = new JobUsage({ objective });
  // All steps of an epoch train on the answers to its 2 prompts.
  const groups = { prompts: 2, answers_per_step: 16, most_tokens_per_step: 16 * 150 };
  usage.tokensUntil(report({ groups }));
  expect(usage.tokensUntil(step(1, 40))).toBe(8 * 100 + 16 * 40);
});
