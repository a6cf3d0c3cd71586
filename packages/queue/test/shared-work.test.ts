import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { jobKeys } from '../src/index.js';
import { whenDue } from '../src/redis/lease.js';
import { prefix, redis, useJobStore } from './real-job-store.js';

useJobStore();

const HOUR_MS = 3_600_000;
const lease = () => jobKeys(prefix).sharedWork('cleaning');
const ending = new AbortController().signal;

/** @param leaseMs - Of this process. */
const due = <Result>(work: (signal: AbortSignal) => Promise<Result>, { leaseMs = 60_000, until = ending } = {}) =>
  whenDue({ redis, keys: jobKeys(prefix), leaseMs }, { name: 'cleaning', everyMs: HOUR_MS, ending: until }, work);

const expired = async () => {
  await redis.pexpire(lease(), 1);
  while ((await redis.exists(lease())) === 1) await sleep(5);
};

test('of many processes one does the work, and none again before it is due', async () => {
  let done = 0;
  const work = async () => ++done;
  const results = await Promise.all(Array.from({ length: 20 }, () => due(work)));
  expect(results.filter((result) => result !== null)).toEqual([1]);
  expect(await due(work)).toBeNull();
  const restMs = await redis.pttl(lease());
  expect(restMs).toBeGreaterThan(HOUR_MS - 240_000);
  expect(restMs).toBeLessThanOrEqual(HOUR_MS);
  await expired();
  expect(await due(work)).toBe(2);
});

test('the work of a process that died is done by another once its lease has expired', async () => {
  await redis.set(lease(), 'of a process that died', 'PX', HOUR_MS);
  expect(await due(async () => 'done')).toBeNull();
  await expired();
  expect(await due(async () => 'done')).toBe('done');
});

test('the lease of a process that works is renewed', async () => {
  const renewals = await due(
    async () => {
      let [leftMs, renewed] = [Number.POSITIVE_INFINITY, 0];
      while (renewed < 3) {
        const now = await redis.pttl(lease());
        if (now > leftMs) renewed++;
        leftMs = now;
        await sleep(5);
      }
      return renewed;
    },
    { leaseMs: 4_000 },
  );
  expect(renewals).toBe(3);
});

test('a process that stood still while another took the work is told to end, and leaves the lease of the other', async () => {
  const seen = await due(
    async (signal) => {
      await redis.set(lease(), 'of another', 'PX', HOUR_MS);
      await once(signal, 'abort');
      return 'ended';
    },
    { leaseMs: 2_000 },
  );
  expect(seen).toBe('ended');
  expect(await redis.get(lease())).toBe('of another');
});

test('what a process that stops has left is due at once; work that failed is not', async () => {
  const stopping = new AbortController();
  const stopped = await due(
    async (signal) => {
      stopping.abort();
      return signal.aborted;
    },
    { until: stopping.signal },
  );
  expect(stopped).toBe(true);
  const broken = due(async () => {
    throw new ProductError('storage_unavailable', 'the store is away');
  });
  await expect(broken).rejects.toMatchObject({ code: 'storage_unavailable' });
  expect(await due(async () => 'again')).toBeNull();
});
