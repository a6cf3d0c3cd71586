import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Strike, startStand } from './stand/fault-stand.js';
import type { JobKind } from './stand/jobs-of-the-suite.js';
import { canLimitMemory, limitMemory } from './stand/memory-limit.js';
import { continueProcess } from './stand/processes.js';

// A trainer that dies costs an attempt and nothing else.

const trainer = { program: 'trainer/child-main.js' } as const;
const undisturbed = inject('undisturbed');
const limitable = await canLimitMemory();
if (!limitable) console.log('trainer-killed: memory is not limited, since this system has no prlimit');
/** A checkpoint of a long job that no attempt is beyond when it is killed. */
const HELD_STEP = 100;
const REFERENCE = '/checkpoints/reference\\.safetensors';
/** The answers of a step, which are written twice: sampled, and graded. */
const ROLLOUT = '/checkpoints/rollout\\.json$';
let stand: FaultStand;

beforeAll(async () => {
  // The trainer tokenizes, not the api.
  const env = { PREFLIGHT_BUDGET_MS: '0' };
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir'), env });
  await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  await stand.startApi();
});
afterAll(() => stand?.close());

describe('SIGKILL at an exact file operation of the trainer', () => {
  test.each<[string, Omit<Strike, 'program'>, JobKind?]>([
    ['tokenizing, before the tokens appear', { call: 'rename', when: 'before', path: '/tokens/ds_' }],
    ['tokenizing, after the tokens appeared', { call: 'rename', when: 'after', path: '/tokens/ds_' }],
    ['reading the base model', { call: 'open', when: 'after', path: 'tiny-llama/model\\.safetensors$' }],
    ['writing a checkpoint', { call: 'write', when: 'after', path: '/checkpoints/', skip: 2 }],
    ['before a checkpoint appears', { call: 'rename', when: 'before', path: '/checkpoints/', skip: 1 }],
    ['after a checkpoint appeared', { call: 'rename', when: 'after', path: '/checkpoints/', skip: 1 }],
    ['writing the adapter', { call: 'write', when: 'after', path: '/attempt-1/adapter_model' }],
    ['when the adapter is written', { call: 'rename', when: 'after', path: '/attempt-1/adapter_model' }],
    ['quantizing the base model', { call: 'open', when: 'after', path: 'tiny-llama/model\\.safetensors$' }, 'nf4'],
    [
      'after a checkpoint on a quantized base',
      { call: 'rename', when: 'after', path: '/checkpoints/', skip: 1 },
      'nf4',
    ],
    [
      'writing the adapter of a quantized base',
      { call: 'write', when: 'after', path: '/attempt-1/adapter_model' },
      'nf4',
    ],
    ['writing the reference of pairs', { call: 'write', when: 'after', path: REFERENCE }, 'pairs'],
    ['before the reference appears', { call: 'rename', when: 'before', path: `${REFERENCE}$` }, 'pairs'],
    ['after the reference appeared', { call: 'rename', when: 'after', path: `${REFERENCE}$` }, 'pairs'],
    ['after the reference of labels appeared', { call: 'rename', when: 'after', path: `${REFERENCE}$` }, 'labels'],
    ['training on pairs', { call: 'rename', when: 'after', path: '/checkpoints/step-', skip: 1 }, 'pairs'],
    ['before the sampled answers are kept', { call: 'rename', when: 'before', path: ROLLOUT, skip: 2 }, 'rewards'],
    ['after sampling, before grading', { call: 'rename', when: 'after', path: ROLLOUT, skip: 2 }, 'rewards'],
    ['before the rewards are kept', { call: 'rename', when: 'before', path: ROLLOUT, skip: 3 }, 'rewards'],
    ['after grading, before the update', { call: 'rename', when: 'after', path: ROLLOUT, skip: 3 }, 'rewards'],
    ['training on labels', { call: 'rename', when: 'after', path: '/checkpoints/step-' }, 'labels'],
  ])('%s', async (_, strike, kind = 'short') => {
    await stand.removeTokens();
    const { struck } = await stand.plan({ ...trainer, ...strike });
    const accepted = await submit(stand, kind);
    await struck();
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job).toMatchObject({ status: 'succeeded', attempts: 2 });
  });
});

describe('a signal during training', () => {
  test.each(['SIGKILL', 'SIGSEGV', 'SIGABRT'] as const)('%s', async (signal) => {
    await stand.holdAt(HELD_STEP);
    const accepted = await submit(stand, 'long');
    await when(stand, accepted, 'it trains', isTraining);
    process.kill((await stand.trainer()).pid, signal);
    await stand.release();
    const [job] = await accountFor(stand, [accepted], undisturbed);
    expect(job).toMatchObject({ status: 'succeeded', attempts: 2 });
  });
});

test.skipIf(!limitable)('memory that runs out before the engine is loaded', async () => {
  // The trainer of the job before must not be reused.
  for (const { pid } of await stand.processes(trainer.program)) process.kill(pid, 'SIGKILL');
  await eventually('no trainer is left', async () => (await stand.processes(trainer.program)).length === 0);
  const { struck } = await stand.plan({ ...trainer, call: 'start', when: 'after', path: '.', signal: 'SIGSTOP' });
  const accepted = await submit(stand, 'short');
  await struck();
  const { pid } = await stand.trainer();
  await limitMemory(pid);
  continueProcess(pid);
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'succeeded', attempts: 2 });
});

test('a trainer that dies at every attempt fails the job clearly and keeps its checkpoints', async () => {
  await stand.holdAt(HELD_STEP);
  const accepted = await submit(stand, 'long');
  for (let attempt = 1; attempt <= 3; attempt++) {
    await when(
      stand,
      accepted,
      `it trains at attempt ${attempt}`,
      (job) => job.attempts === attempt && isTraining(job),
    );
    process.kill((await stand.trainer()).pid, 'SIGKILL');
  }
  await stand.release();
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'failed', attempts: 3, error: { code: 'out_of_memory' } });
});
