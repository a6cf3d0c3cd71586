import { type JobId, type KeyId, newIdentifier } from '@lorasmith/contracts';
import { beforeEach, expect, test } from 'vitest';
import type { JobAttempt } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { store, useJobStore } from './real-job-store.js';

useJobStore();
let one: KeyId;
let other: KeyId;
beforeEach(() => {
  [one, other] = [newIdentifier('key'), newIdentifier('key')];
});

const create = async (owner: KeyId | null, adapterBytes?: number) =>
  (await store.createJob(aJobSpec(), { requestHash: 'h', owner, adapterBytes })).job.id;
async function started(id: JobId): Promise<JobAttempt> {
  const start = await store.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(start.reason);
  return start.attempt;
}

test('the bytes of an unfinished job count for its owner and in the total', async () => {
  const first = await create(one, 2 ** 40);
  await create(one, 10);
  await create(other, 100);
  await create(null, 1_000);
  await create(one);
  expect(await store.adapterBytes.reserved(one)).toEqual({ own: 2 ** 40 + 10, total: 2 ** 40 + 1_110 });
  expect(await store.adapterBytes.reserved(null)).toEqual({ own: 1_000, total: 2 ** 40 + 1_110 });
  expect(await store.adapterBytes.of(first)).toBe(2 ** 40);
  await started(first);
  expect((await store.adapterBytes.reserved(one)).own).toBe(2 ** 40 + 10);
});

test.each<[string, (id: JobId) => Promise<unknown>]>([
  ['is cancelled while it waits', (id) => store.requestCancel(id)],
  ['is cancelled while it runs', async (id) => store.attempts.cancel(await started(id))],
  [
    'fails',
    async (id) =>
      store.attempts.fail(await started(id), { code: 'trainer_crashed', message: 'It crashed.', details: [] }),
  ],
  ['succeeds', async (id) => store.attempts.succeed(await started(id), newIdentifier('ad'))],
])('the reservation is released when the job %s', async (_, end) => {
  await end(await create(one, 10));
  expect(await store.adapterBytes.reserved(one)).toEqual({ own: 0, total: 0 });
});

test('a resumed job has its bytes reserved again', async () => {
  const id = await create(one, 10);
  await store.requestCancel(id);
  await store.resumeJob(id);
  expect(await store.adapterBytes.reserved(one)).toEqual({ own: 10, total: 10 });
});
