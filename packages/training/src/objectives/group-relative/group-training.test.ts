import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Grader, type JobSpec, type ObjectiveRequest, objectiveOf } from '@lorasmith/contracts';
import { chooseKernels, liveTensorCount } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HAS_ALL_CASES } from '../../../../../test/usual-cases.js';
import { aJob } from '../../../test/a-job.js';
import {
  type Ran,
  type RunOptions,
  type StoredRows,
  stepsOf,
  TinyTrainings,
  weightsOf,
} from '../../../test/tiny-trainings.js';
import { BaseModelCache } from '../../base-model-cache.js';
import { type FinishedPass, PassScheduler } from '../../shared-pass/pass-scheduler.js';

const kernels = chooseKernels('fused');

let trainings: TinyTrainings;
let prompts: StoredRows;
beforeAll(async () => {
  trainings = await TinyTrainings.create(kernels);
  const rows = Array.from({ length: 14 }, (_, i) => ({
    prompt: `count to ${i}`,
    reference: { letter: 'a', number: i },
  }));
  prompts = await trainings.store('a', 'graded_prompt', rows);
});
afterAll(async () => {
  await trainings.remove();
});
const run = (spec: JobSpec, options?: RunOptions) => trainings.run(spec, prompts, options);

/** Answers with the letter of the row are right. */
const HAS_LETTER: Grader = { type: 'string_check', reference: '{{item.reference.letter}}', operation: 'like' };

function rewarding(objective: Omit<ObjectiveRequest, 'kind'> = {}, changes: Parameters<typeof aJob>[0] = {}): JobSpec {
  const settings = { grader: HAS_LETTER, group_size: 6, max_completion_tokens: 5, ...objective };
  return { ...aJob(changes), objective: objectiveOf({ kind: 'group-relative', ...settings }) };
}

async function checkpointsIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.startsWith('step-'));
}

/** A folder with the checkpoints of another, as a host has it that gets them from a store. */
async function onlyCheckpoints(folder: string): Promise<string> {
  const copy = `${folder}-elsewhere`;
  await mkdir(copy);
  for (const name of await checkpointsIn(folder)) await copyFile(join(folder, name), join(copy, name));
  return copy;
}

describe('a job on sampled answers', () => {
  const spec = rewarding({}, { validation: { split: 0.3 }, training: { epochs: 12, learning_rate: 2e-2 } });
  let whole: Ran;
  beforeAll(async () => {
    whole = await run(spec);
  });

  test('makes answers with a high reward more likely, also to prompts that it has not seen', () => {
    expect(whole.error).toBeNull();
    const { evaluation_before: before, evaluation_after: after, ...result } = whole.outcome!.result;
    expect(after!.group!.reward).toBeGreaterThan(before!.group!.reward + 0.3);
    expect(after).toMatchObject({ loss: -after!.group!.reward, perplexity: null });
    expect(after!.accuracy).toBeCloseTo(1 - after!.group!['completions/clipped_ratio'], 12);
    expect(result.losses.every(Number.isFinite)).toBe(true);
  });

  test('reports its groups, and the metrics of each step', () => {
    const { report, result } = whole.outcome!;
    const { longest } = report.rows;
    expect(report.groups).toEqual({ prompts: 9, answers_per_step: 24, most_tokens_per_step: 24 * (longest + 5) });
    expect(report.rendered!.first_row.map(({ trained }) => trained)).toEqual([false]);
    const steps = stepsOf(whole);
    expect(steps).toHaveLength(report.steps.total);
    for (const { group, accuracy } of steps) {
      expect(group!.reward).toBeGreaterThanOrEqual(0);
      expect(group!['completions/mean_length']).toBeLessThanOrEqual(5);
      expect(accuracy).toBeCloseTo(1 - group!['completions/clipped_ratio'], 6);
      // With one update from each batch of answers, the ratio is 1.
      expect(group!['clip_ratio/region_mean']).toBe(0);
    }
    expect(result.trained_tokens).toBeGreaterThan(0);
    expect(result.tokens).toBeGreaterThan(result.trained_tokens);
  });

  test('shows answers of each step with their rewards, before it trains on them', () => {
    const types = whole.events.map(({ type }) => type).filter((type) => /^(step-finished|answers-graded)$/.test(type));
    const rounds = whole.events.flatMap((event) => (event.type === 'answers-graded' ? [event.data] : []));
    expect(types).toEqual(rounds.flatMap(() => ['answers-graded', 'step-finished']));
    expect(rounds.map(({ step }) => step)).toEqual(stepsOf(whole).map(({ step }) => step));
    for (const { prompt, line, answers } of rounds) {
      expect(prompt).toContain(`count to ${line - 1}`);
      expect(answers).toHaveLength(6);
      for (const { text, tokens, reward } of answers) {
        expect(reward).toBe(text.includes('a') ? 1 : 0);
        expect(tokens).toBeLessThanOrEqual(5);
      }
    }
  });

  test.runIf(HAS_ALL_CASES)('resumes to the same bytes', async () => {
    const stopped = await run(spec, {
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 5 && stop('pause'),
    });
    expect(stopped.error).toMatchObject({ code: 'cancelled' });
    const resumed = await run(spec, { checkpointFolder: stopped.checkpointFolder });
    expect(resumed.events.map(({ type }) => type)).toContain('checkpoint-loaded');
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
  });

  test('that is killed between rewards and update asks for no second reward', async () => {
    const stopped = await run(spec, {
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 5 && stop('pause'),
    });
    // The rewards of the next step, as a trainer had written them before it was killed.
    const next = await run(spec, {
      checkpointFolder: stopped.checkpointFolder,
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 6 && stop('cancelled'),
    });
    expect(next.error).toMatchObject({ code: 'cancelled' });
    const file = join(stopped.checkpointFolder, 'rollout.json');
    const text = (await readFile(file, 'utf8')).split('\n')[1]!;
    const rollout = JSON.parse(text) as { batch: number; groups: { reward: number }[][] };
    for (const answer of rollout.groups.flat()) answer.reward = 7;
    const changed = JSON.stringify(rollout);
    await writeFile(file, `${createHash('sha256').update(changed).digest('hex')}\n${changed}`);
    const resumed = await run(spec, { checkpointFolder: stopped.checkpointFolder });
    const step = stepsOf(resumed).find((one) => one.step === rollout.batch + 1);
    expect(step!.group).toMatchObject({ reward: 7, frac_reward_zero_std: 1 });
    expect(step!.grad_norm).toBe(0);
  });

  test.runIf(HAS_ALL_CASES)('samples again where the answers that were kept are damaged', async () => {
    const stopped = await run(spec, {
      onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 5 && stop('pause'),
    });
    const file = join(stopped.checkpointFolder, 'rollout.json');
    const bytes = await readFile(file);
    bytes[bytes.length - 9]! ^= 1;
    await writeFile(file, bytes);
    const resumed = await run(spec, { checkpointFolder: stopped.checkpointFolder });
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
  });

  test('is the same job in micro-batches of another size', async () => {
    const changed = structuredClone(spec);
    Object.assign(changed.training, { batch_size: 4, gradient_accumulation_steps: 1, epochs: 3 });
    const steps = stepsOf(await run(changed));
    expect(steps.length).toBeGreaterThan(3);
    for (const [index, { loss, group }] of steps.slice(0, 3).entries()) {
      expect(loss).toBeCloseTo(stepsOf(whole)[index]!.loss, 4);
      expect(group!.reward).toBeCloseTo(stepsOf(whole)[index]!.group!.reward, 12);
    }
  });

  test('leaves no tensor behind', async () => {
    const before = liveTensorCount();
    await run(rewarding({ kl_weight: 0.1, updates_per_batch: 2 }));
    expect(liveTensorCount()).toBe(before);
  });
});

test('several updates train on the same answers, and a run that is resumed between them, too', async () => {
  const spec = rewarding(
    { updates_per_batch: 3, clip_low: 0.01, kl_weight: 0.05 },
    { training: { epochs: 1, learning_rate: 2e-2 } },
  );
  const whole = await run(spec);
  const rewards = stepsOf(whole).map(({ group }) => group!.reward);
  expect(rewards).toHaveLength(12);
  for (const [step, reward] of rewards.entries()) expect(reward).toBe(rewards[step - (step % 3)]);
  const clipped = stepsOf(whole).map(({ group }) => group!['clip_ratio/region_mean']!);
  expect(clipped.filter((_, step) => step % 3 === 0).every((share) => share === 0)).toBe(true);
  expect(clipped.some((share) => share > 0)).toBe(true);
  expect(stepsOf(whole).at(-1)!.group!.kl).toBeGreaterThan(0);
  const stopped = await run(spec, {
    onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 4 && stop('pause'),
  });
  const ofAnotherHost = await onlyCheckpoints(stopped.checkpointFolder);
  for (const checkpointFolder of [stopped.checkpointFolder, ofAnotherHost]) {
    expect(await weightsOf(await run(spec, { checkpointFolder }))).toEqual(await weightsOf(whole));
  }
});

describe('on a model whose rotary angles depend on the length', () => {
  const factors = (first: number) => [first, 2, 4, 8];
  // Prompts have 3 to 10 tokens, with their answers up to 15.
  const original = 10;
  const ropes = {
    dynamic: { max_position_embeddings: original, rope_parameters: { rope_type: 'dynamic', factor: 4 } },
    longrope: {
      max_position_embeddings: 4 * original,
      original_max_position_embeddings: original,
      rope_parameters: { rope_type: 'longrope', short_factor: factors(1), long_factor: factors(3) },
    },
  };

  test.each(Object.entries(ropes))(
    '%s clips no token in the first update',
    async (_, { rope_parameters, ...positions }) => {
      const config = { ...positions, rope_parameters: { ...rope_parameters, rope_theta: 100 } };
      const growing = await TinyTrainings.create(kernels, config);
      try {
        const rows = Array.from({ length: 8 }, (_, i) => ({
          prompt: `to ${'9'.repeat(i)}`,
          reference: { letter: 'a' },
        }));
        const stored = await growing.store('a', 'graded_prompt', rows);
        const spec = rewarding(
          { grader: { type: 'regex', pattern: '[a-m]' }, updates_per_batch: 2, clip_low: 1e-3 },
          { training: { epochs: 1, learning_rate: 2e-2, warmup_ratio: 0, completion_format: 'text' } },
        );
        const whole = await growing.run(spec, stored);
        expect(whole.error).toBeNull();
        const clipped = stepsOf(whole).map(({ group }) => group!['clip_ratio/region_mean']!);
        expect(clipped).toHaveLength(4);
        for (const [step, share] of clipped.entries()) {
          if (step % 2 === 0) expect(share).toBe(0);
          else expect(share).toBeGreaterThan(0);
        }
        const stopped = await growing.run(spec, stored, {
          onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === 1 && stop('pause'),
        });
        const resumed = await growing.run(spec, stored, { checkpointFolder: stopped.checkpointFolder });
        expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
      } finally {
        await growing.remove();
      }
    },
  );
});

test.runIf(HAS_ALL_CASES)(
  'a run that is killed in a later batch of answers than its checkpoint continues with the answers of the checkpoint',
  async () => {
    const spec = rewarding({ updates_per_batch: 3 }, { training: { epochs: 1, learning_rate: 2e-2 } });
    const whole = await run(spec);
    const stopAt = (at: number, checkpointFolder?: string) =>
      run(spec, {
        ...(checkpointFolder === undefined ? {} : { checkpointFolder }),
        onEvent: ({ type, data }, stop) => type === 'step-finished' && data.step === at && stop('pause'),
      });
    const { checkpointFolder } = await stopAt(4);
    const [checkpoint] = await readdir(await onlyCheckpoints(checkpointFolder));
    // The answers of the third batch are in the file now. Without the checkpoint of its stop, it is as after a kill.
    await stopAt(7, checkpointFolder);
    for (const name of await checkpointsIn(checkpointFolder)) {
      if (name !== checkpoint) await rm(join(checkpointFolder, name));
    }
    const resumed = await run(spec, { checkpointFolder });
    expect(stepsOf(resumed)[0]!.step).toBe(5);
    expect(await weightsOf(resumed)).toEqual(await weightsOf(whole));
  },
);

test.runIf(HAS_ALL_CASES)('a job that continues an adapter has that adapter as its reference', async () => {
  const first = await run(rewarding());
  const second = await run(rewarding({ kl_weight: 0.5 }), { initialAdapterFolder: first.outputFolder });
  expect(second.error).toBeNull();
  expect(stepsOf(second)[0]!.group!.kl).toBeCloseTo(0, 6);
  const fresh = await run(rewarding({ kl_weight: 0.5 }));
  expect(stepsOf(fresh)[0]!.group!.kl).toBeCloseTo(0, 6);
});

test.runIf(HAS_ALL_CASES)(
  'jobs with unlike settings share passes, and have the same bytes as alone',
  async ({ skip }) => {
    const specs = [
      rewarding({ normalization: 'grpo' }, { training: { seed: 1 } }),
      rewarding({ normalization: 'dr_grpo', scale_rewards: 'none', kl_weight: 0.2 }, { training: { seed: 2 } }),
      rewarding({ updates_per_batch: 2 }, { training: { seed: 3 }, lora: { target_modules: ['q_proj', 'lm_head'] } }),
    ];
    const alone: string[] = [];
    for (const spec of specs) alone.push(await weightsOf(await run(spec)));
    const passes: FinishedPass[] = [];
    const scheduler = new PassScheduler({ passTokens: 8192, onPass: (pass) => passes.push(pass) });
    const cache = new BaseModelCache(kernels);
    const together = await Promise.all(specs.map((spec) => run(spec, { cache, scheduler })));
    cache.dispose();
    expect(Math.max(...passes.map(({ jobs }) => jobs))).toBeGreaterThan(1);
    if (!kernels.rowsAreIndependent('float32'))
      skip('The products of this processor in float32 depend on the number of rows.');
    expect(await Promise.all(together.map(weightsOf))).toEqual(alone);
  },
);

test('early stopping and the best state follow the mean reward', async () => {
  const spec = rewarding(
    {},
    {
      validation: { split: 0.3 },
      training: { epochs: 20, eval_every_steps: 2, early_stopping: { patience: 2, min_delta: 0.5 } },
    },
  );
  const { outcome, error, events } = await run(spec);
  expect(error).toBeNull();
  expect(outcome!.result.stopped_early).toBe(true);
  const evaluations = events.flatMap((event) =>
    event.type === 'evaluation-finished' && event.data.step > 0 ? [event.data] : [],
  );
  const best = Math.max(...evaluations.map(({ group }) => group!.reward));
  expect(outcome!.result.evaluation_after!.group!.reward).toBe(best);
});

test.each([
  ['1 / has', 'Infinity'],
  ['has / has', 'NaN'],
  ['has * 1e30 + 1e30', '1e+30'],
])('a reward of the formula %s fails the job with the line and the reward', async (formula, reward) => {
  const graders = { has: { type: 'string_check' as const, reference: 'no such text', operation: 'like' as const } };
  const { error } = await run(rewarding({ grader: { type: 'multi', graders, calculate_output: formula } }));
  expect(error).toMatchObject({
    code: 'grader_failed',
    message: expect.stringContaining(`the reward ${reward} to an answer to line `),
  });
});

test('a step whose groups have equal rewards changes nothing but the state of the optimizer', async () => {
  const same: Grader = { type: 'string_check', reference: 'no such text', operation: 'like' };
  const ran = await run(rewarding({ grader: same }, { training: { weight_decay: 0 } }));
  expect(ran.error).toBeNull();
  for (const { group, grad_norm, loss } of stepsOf(ran)) {
    expect(group).toMatchObject({ reward: 0, reward_std: 0, frac_reward_zero_std: 1 });
    expect([grad_norm, Math.abs(loss)]).toEqual([0, 0]);
  }
});
