import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type GradedItem,
  type Grader,
  type GradingBatch,
  type GradingOutcome,
  type JobSpec,
  type ObjectiveRequest,
  objectiveOf,
} from '@lorasmith/contracts';
import { chooseKernels } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HAS_ALL_CASES, usualCases } from '../../../../../test/usual-cases.js';
import { storeDataset } from '../../../../planning/test/stored-dataset.js';
import { aJob } from '../../../test/a-job.js';
import { type RunOptions, type StoredRows, stepsOf, TinyTrainings, weightsOf } from '../../../test/tiny-trainings.js';
import { BaseModelCache } from '../../base-model-cache.js';
import { type FinishedPass, PassScheduler } from '../../shared-pass/pass-scheduler.js';
import type { AskGrader } from './reward-source.js';

const kernels = chooseKernels('fused');

let trainings: TinyTrainings;
let prompts: StoredRows;
beforeAll(async () => {
  trainings = await TinyTrainings.create(kernels);
  const rows = Array.from({ length: 14 }, (_, i) => ({ prompt: `count to ${i}`, reference: 'a' }));
  prompts = await trainings.store('a', 'graded_prompt', rows);
});
afterAll(async () => {
  await trainings.remove();
});
const run = (spec: JobSpec, options?: RunOptions) => trainings.run(spec, prompts, options);

const HAS_LETTER: Grader = { type: 'string_check', reference: '{{item.reference}}', operation: 'like' };
const WEBHOOK: Grader = { type: 'webhook', url: 'https://grader.example/' };

function rewarding(
  objective: Omit<ObjectiveRequest, 'kind'> = {},
  training: Partial<JobSpec['training']> = {},
): JobSpec {
  const settings = { grader: WEBHOOK, group_size: 6, max_completion_tokens: 5, ...objective };
  const job = aJob({ validation: { split: 0.2 }, training: { epochs: 2, learning_rate: 2e-2, ...training } });
  return { ...job, objective: objectiveOf({ kind: 'group-relative', ...settings }) };
}

const itemsOf = ({ items }: GradingBatch) => items.map((item) => JSON.parse(item) as GradedItem);
/** The rewards that HAS_LETTER gives. */
const rewardsOf = (batch: GradingBatch) =>
  itemsOf(batch).map(({ completion, reference }) => (completion.includes(reference as string) ? 1 : 0));
const graded: AskGrader = async (batch) => ({ kind: 'graded', rewards: rewardsOf(batch) });

test('rewards of a webhook train what the same rewards of a grader train', async () => {
  const batches: GradingBatch[] = [];
  const askGrader: AskGrader = async (batch) => {
    batches.push(batch);
    return await graded(batch);
  };
  const ran = await run(rewarding(), { askGrader });
  expect(await weightsOf(ran)).toBe(await weightsOf(await run(rewarding({ grader: HAS_LETTER }))));
  const steps = batches.flatMap(({ step }) => step ?? []);
  expect(steps).toEqual(stepsOf(ran).map(({ step }) => step));
  expect(batches.filter(({ step }) => step === null).map(({ items }) => items.length)).toEqual([18, 18]);
  for (const { line, prompt, completion_tokens: tokens, finish_reason: reason } of itemsOf(batches[0]!)) {
    expect(prompt).toBe(`count to ${line - 1}`);
    expect(reason === 'length' ? [5] : [1, 2, 3, 4, 5]).toContain(tokens);
  }
});

test.runIf(HAS_ALL_CASES)(
  'answers beyond the bound of a request go into another one, and the rewards stay in their order',
  async () => {
    const sizes: number[] = [];
    const askGrader: AskGrader = async (batch) => {
      if (batch.step === 1) sizes.push(batch.items.length);
      return await graded(batch);
    };
    const objective = { group_size: 20 };
    const ran = await run(rewarding(objective), { askGrader });
    expect(sizes).toEqual([64, 16]);
    expect(await weightsOf(ran)).toBe(await weightsOf(await run(rewarding({ ...objective, grader: HAS_LETTER }))));
  },
);

test.runIf(HAS_ALL_CASES)(
  'a job that waits for rewards holds no pass: another one trains to its end meanwhile',
  async ({ skip }) => {
    const passes: FinishedPass[] = [];
    const scheduler = new PassScheduler({ onPass: (pass) => passes.push(pass) });
    const cache = new BaseModelCache(kernels);
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let isWaiting = () => {};
    let steps = 0;
    const askGrader: AskGrader = async (batch) => {
      if (batch.step === 2) {
        isWaiting();
        await gate;
      }
      return await graded(batch);
    };
    const onEvent: RunOptions['onEvent'] = ({ type }) => {
      if (type === 'step-finished') steps++;
    };
    let waiting: ReturnType<typeof run> | undefined;
    await new Promise<void>((resolve) => {
      isWaiting = resolve;
      waiting = run(rewarding(), { cache, scheduler, askGrader, onEvent });
    });
    passes.length = 0;
    const other = await run(rewarding({ grader: HAS_LETTER }, { seed: 3 }), { cache, scheduler });
    expect(other.error).toBeNull();
    expect(passes.length).toBeGreaterThan(3);
    expect(passes.every(({ jobs }) => jobs === 1)).toBe(true);
    expect(steps).toBe(1);
    open();
    const ran = (await waiting)!;
    cache.dispose();
    expect(ran.error).toBeNull();
    if (!kernels.rowsAreIndependent('float32'))
      skip('The products of this processor in float32 depend on the number of rows.');
    expect(await weightsOf(ran)).toBe(await weightsOf(await run(rewarding(), { askGrader: graded })));
  },
);

/** A job that is stopped while the answers of its third step are graded. */
async function stoppedAtThird(spec: JobSpec) {
  const batches: GradingBatch[] = [];
  let stop = () => {};
  const askGrader: AskGrader = (batch) => {
    batches.push(batch);
    if (batch.step !== 3) return graded(batch);
    stop();
    return new Promise(() => {});
  };
  const stopped = await run(spec, {
    askGrader,
    onEvent: (_, stopWith) => {
      stop = () => stopWith('cancelled');
    },
  });
  expect(stopped.error).toMatchObject({ code: 'cancelled' });
  return { stopped, asked: batches.at(-1)! };
}

test('a job that is stopped while it waits ends at once, and asks for the same rewards when it is resumed', async () => {
  const spec = rewarding({}, { checkpoint_every_steps: 1 });
  const { stopped, asked } = await stoppedAtThird(spec);
  const batches: GradingBatch[] = [];
  const resumed = await run(spec, {
    checkpointFolder: stopped.checkpointFolder,
    askGrader: async (batch) => {
      batches.push(batch);
      return await graded(batch);
    },
  });
  expect(batches[0]).toEqual(asked);
  expect(await weightsOf(resumed)).toBe(await weightsOf(await run(spec, { askGrader: graded })));
});

test('a webhook gets numbers as the row has them', async () => {
  const rows = Array.from({ length: 4 }, (_, i) => ({ prompt: `count to ${i}`, reference: 'a number' }));
  const priced = await trainings.store('b', 'graded_prompt', rows);
  const text = await readFile(priced.rowsFile, 'utf8');
  const written = text.replaceAll('"a number"', '[12.50,9007199254740993,1e400]');
  Object.assign(priced.dataset, await storeDataset(priced.rowsFile, 'graded_prompt', written));
  const items: string[] = [];
  const askGrader: AskGrader = async (batch) => {
    items.push(...batch.items);
    return { kind: 'graded', rewards: batch.items.map(() => 0) };
  };
  const ran = await trainings.run(rewarding({}, { epochs: 1 }), priced, { askGrader });
  expect(ran.error).toBeNull();
  expect(items.length).toBeGreaterThan(0);
  for (const item of items) expect(item).toContain('"reference":[12.50,9007199254740993,1e400],');
});

test('a job that was killed between sampling and grading samples no second time', async () => {
  const spec = rewarding({}, { checkpoint_every_steps: 1 });
  const { stopped } = await stoppedAtThird(spec);
  const file = join(stopped.checkpointFolder, 'rollout.json');
  const rollout = JSON.parse((await readFile(file, 'utf8')).split('\n')[1]!) as {
    kind: string;
    groups: { ids: number[]; log_probabilities: number[] }[][];
  };
  expect(rollout.kind).toBe('sampled');
  const [answer] = rollout.groups[0]!;
  Object.assign(answer!, { ids: [65, 66, 67], log_probabilities: [-1, -1, -1], has_ended: false });
  const changed = JSON.stringify(rollout);
  await writeFile(file, `${createHash('sha256').update(changed).digest('hex')}\n${changed}`);
  const items: GradedItem[] = [];
  const resumed = await run(spec, {
    checkpointFolder: stopped.checkpointFolder,
    askGrader: async (batch) => {
      if (batch.step === 3) items.push(...itemsOf(batch));
      return await graded(batch);
    },
  });
  expect(resumed.error).toBeNull();
  expect(items[0]).toMatchObject({ completion_tokens: 3, finish_reason: 'length' });
});

const BAD_OUTCOMES: [string, GradingOutcome, string][] = [
  ['fails', { kind: 'failed', message: 'The webhook of the grader failed 3 times: it answered 500.' }, 'answered 500'],
  ['gives 1e30', { kind: 'graded', rewards: [1e30] }, 'the reward 1e+30 to an answer to line '],
  ['gives too few rewards', { kind: 'graded', rewards: [1] }, 'the reward undefined to an answer to line '],
];
test.each(usualCases(BAD_OUTCOMES, 1))(
  'a webhook that %s fails the job with that, and with what was kept the job goes on',
  async (_, outcome, message) => {
    const spec = rewarding({}, { checkpoint_every_steps: 1 });
    const failed = await run(spec, {
      askGrader: async (batch) => (batch.step === 2 ? outcome : await graded(batch)),
    });
    expect(failed.error).toMatchObject({ code: 'grader_failed', message: expect.stringContaining(message) });
    const resumed = await run(spec, { checkpointFolder: failed.checkpointFolder, askGrader: graded });
    expect(resumed.events.map(({ type }) => type)).toContain('checkpoint-loaded');
    expect(await weightsOf(resumed)).toBe(await weightsOf(await run(spec, { askGrader: graded })));
  },
);
