import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { accountFor, isTraining, submit, when } from './stand/accepted-jobs.js';
import { type FaultStand, SHORT_LOCK_MS, startStand } from './stand/fault-stand.js';

// The clocks of all services jump, but not that of Redis, as on a host whose clock is corrected.

const undisturbed = inject('undisturbed');
const DAY_MS = 24 * 3_600_000;
let stand: FaultStand;

beforeAll(async () => {
  const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
  stand = await startStand({ ...folders, jobLockMs: SHORT_LOCK_MS });
  await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
  await stand.startApi();
});
afterAll(() => stand?.close());

test.each([
  ['two days forward', 2 * DAY_MS],
  ['back again', 0],
  ['two days back', -2 * DAY_MS],
])('%s, with one job running and one waiting', async (_, shiftMs) => {
  const accepted = [await submit(stand, 'long'), await submit(stand, 'short')];
  await when(stand, accepted[0]!, 'it trains', isTraining);
  await stand.shiftClock(shiftMs);
  const jobs = await accountFor(stand, accepted, undisturbed);
  expect(jobs.map(({ status }) => status)).toEqual(['succeeded', 'succeeded']);
});

test('forward while a job waits for its next attempt, and back', async () => {
  const accepted = await submit(stand, 'long');
  await when(stand, accepted, 'it trains', isTraining);
  process.kill((await stand.trainer()).pid, 'SIGKILL');
  await when(stand, accepted, 'it waits', ({ status }) => status === 'queued');
  await stand.shiftClock(DAY_MS);
  await stand.shiftClock(-DAY_MS);
  await stand.shiftClock(0);
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job?.status).toBe('succeeded');
});
