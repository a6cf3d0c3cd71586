import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, type Part, startStand } from './stand/fault-stand.js';
import { isAlive } from './stand/processes.js';

// A trainer that hangs and does not respond to messages, simulated with SIGSTOP.

/** Less than the 30 s after which a trainer that ignores a cancel is killed, so that the two can be distinguished. */
const SILENCE_MS = 12_000;
const undisturbed = inject('undisturbed');
let stand: FaultStand;
let worker: Part;

beforeAll(async () => {
  const env = { TRAINER_SILENCE_MS: String(SILENCE_MS), SHUTDOWN_TIMEOUT_MS: '5000' };
  stand = await startStand({ modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir'), env });
  [, worker] = await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  await stand.startApi();
});
afterAll(() => stand?.close());

const stopTrainerOf = async (kind: 'long' | 'short') => {
  const accepted = await submit(stand, kind);
  await when(stand, accepted, 'it trains', isTraining);
  const { pid } = await stand.trainer();
  process.kill(pid, 'SIGSTOP');
  return { accepted, pid };
};

test('a trainer that hangs during training: it is killed, and another one continues', async () => {
  const { accepted, pid } = await stopTrainerOf('long');
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job).toMatchObject({ status: 'succeeded' });
  expect(job?.attempts).toBeGreaterThanOrEqual(2);
  expect(await isAlive(pid)).toBe(false);
});

test('a trainer that hangs when its job is cancelled: the job is cancelled all the same, and the next one succeeds', async () => {
  const { accepted, pid } = await stopTrainerOf('long');
  await stand.client.cancelJob(accepted.id);
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job?.status).toBe('cancelled');
  expect(await isAlive(pid)).toBe(false);
  const [next] = await accountFor(stand, [await submit(stand, 'short')], undisturbed);
  expect(next?.status).toBe('succeeded');
});

test('a trainer that hangs when its worker receives SIGTERM: the worker kills it, releases the job and ends in time', async () => {
  const { accepted, pid } = await stopTrainerOf('long');
  worker.signal('SIGTERM');
  expect(await worker.exited).toBe('exited with 0');
  await eventually('its trainer is gone', async () => !(await isAlive(pid)));
  expect((await stand.client.getJob(accepted.id)).status).toBe('queued');
  worker = await stand.startWorker('two');
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job?.status).toBe('succeeded');
});
