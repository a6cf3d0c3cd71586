import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { Sweep } from '../../packages/contracts/src/index.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, SHORT_LOCK_MS, startStand } from './stand/fault-stand.js';
import { DATASET_TEXT, requestOf } from './stand/jobs-of-the-suite.js';

// A sweep by halving, and what decides and trains it is killed between the rungs: it continues, and decides the same.

let stand: FaultStand;
let api: Part;
let worker: Part;
let workers = 0;
let dataset: string;

const startNext = async () => {
  worker = await stand.startWorker(`worker-${++workers}`);
};

beforeAll(async () => {
  const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
  stand = await startStand({ ...folders, jobLockMs: SHORT_LOCK_MS });
  await Promise.all([stand.startRegistry(), startNext()]);
  api = await stand.startApi();
  dataset = (await stand.client.uploadDataset({ text: DATASET_TEXT })).id;
});
afterAll(() => stand?.close());

async function create(): Promise<string> {
  const { id } = await stand.client.createSweep({
    job: { ...requestOf('short', dataset), validation: { split: 0.25 } },
    space: { 'training.learning_rate': { values: [1e-4, 1e-2, 1e-3, 5e-3] } },
    halving: { first_steps: 3 },
  });
  return id;
}

const until = async (id: string, what: string, isSo: (sweep: Sweep) => boolean): Promise<Sweep> =>
  await eventually(`the sweep ${what}`, async () => {
    const sweep = await stand.client.getSweep(id).catch(() => null);
    return sweep !== null && isSo(sweep) ? sweep : undefined;
  });
const ended = (id: string) => until(id, 'ends', ({ ended_at }) => ended_at !== null);

/** The decisions of a sweep, and the numbers on which they were made. */
const decisionsOf = ({ status, rungs, variants, best }: Sweep) => ({
  status,
  rungs: rungs.map(({ step, kept, stopped }) => ({ step, kept, stopped })),
  variants: variants.map((one) => [one.status, one.step, one.metric, one.rank]),
  best: variants.find(({ job }) => job === best)?.variant,
});

test('SIGKILL of worker and api between the rungs', async () => {
  const alone = decisionsOf(await ended(await create()));
  expect(alone).toMatchObject({ status: 'succeeded', rungs: [{ step: 3 }, { step: 6 }] });

  const id = await create();
  await until(id, 'has a variant at a rung', ({ variants }) => variants.some(({ status }) => status === 'paused'));
  worker.signal('SIGKILL');
  await worker.exited;
  await startNext();
  await until(id, 'has passed a rung', ({ rungs }) => rungs.length > 0);
  api.signal('SIGKILL');
  await api.exited;
  worker.signal('SIGKILL');
  await worker.exited;
  api = await stand.startApi();
  await startNext();
  expect(decisionsOf(await ended(id))).toEqual(alone);
});

test('SIGKILL of the worker after a checkpoint at a rung, before it is recorded', async () => {
  const alone = decisionsOf(await ended(await create()));
  const path = '/checkpoints/step-0000000003';
  const { struck } = await stand.plan({
    program: 'trainer/child-main.js',
    call: 'rename',
    when: 'after',
    path,
    signal: 'SIGSTOP',
  });
  const id = await create();
  await struck();
  worker.signal('SIGKILL');
  await worker.exited;
  process.kill((await stand.trainer()).pid, 'SIGKILL');
  await startNext();
  expect(decisionsOf(await ended(id))).toEqual(alone);
});
