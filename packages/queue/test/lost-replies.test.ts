import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { NewJobEvent } from '@lorasmith/contracts';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createJobStore, type JobStore, jobKeys } from '../src/index.js';
import { aJobSpec } from './a-job-spec.js';
import { prefix, redis, server, store, useJobStore } from './real-job-store.js';

useJobStore();

/** A proxy between a worker and Redis that loses a reply, with the connection. The client then sends the command again. */
let lossy: Server;
/** The replies before the one that is lost; null: none is. */
let until: number | null;
let workersRedis: Redis;
let workers: JobStore;

beforeEach(async () => {
  const { hostname, port } = new URL(server.url);
  until = null;
  lossy = createServer((client: Socket) => {
    const upstream = connect(Number(port), hostname);
    client.pipe(upstream);
    upstream.on('data', (reply: Buffer) => {
      if (until !== null) until--;
      if (until !== -1) return void client.write(reply);
      until = null;
      client.destroy();
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on('error', () => {});
      one.on('close', () => other.destroy());
    }
  });
  await once(lossy.listen(0, '127.0.0.1'), 'listening');
  workersRedis = new Redis((lossy.address() as AddressInfo).port, '127.0.0.1', { maxRetriesPerRequest: null });
  workersRedis.on('error', () => {});
  workers = createJobStore({ redis: workersRedis, prefix });
});
afterEach(async () => {
  await workers.close();
  workersRedis.disconnect();
  lossy.close();
});

/** Loses the reply to a command of the call, after so many others. */
async function losingReply<Result>(after: number, call: () => Promise<Result>): Promise<Result> {
  // The connection may have been lost.
  await workersRedis.ping();
  until = after;
  const result = await call();
  expect(until).toBeNull();
  return result;
}

const step: NewJobEvent = {
  type: 'step-finished',
  data: {
    step: 1,
    total_steps: 10,
    epoch: 0.1,
    loss: 2.5,
    accuracy: 0.5,
    learning_rate: 1e-4,
    grad_norm: 0.5,
    tokens_per_second: 100,
    seconds_left: 9,
  },
};

test('an attempt whose start is sent twice is one attempt, and no worker has died', async () => {
  const { job } = await store.createJob(aJobSpec(), { requestHash: 'h' });
  const { job: other } = await store.createJob(aJobSpec(), { requestHash: 'h' });
  // From now on the server knows the script.
  await workers.attempts.start(other.id, 'worker-1');
  const used = async () => Number(await redis.hget(jobKeys(prefix).keyUsed, ''));
  const before = await used();
  // The first reply is that of the look at what the job reads.
  const start = await losingReply(1, () => workers.attempts.start(job.id, 'worker-1'));
  expect(start).toMatchObject({ outcome: 'started', attempt: { number: 1 } });
  expect((await store.readEvents(job.id)).data.map(({ type }) => type)).toEqual(['job-queued', 'job-started']);
  expect(await redis.hget(jobKeys(prefix).job(job.id), 'deaths')).toBeNull();
  expect(await used()).toBe(2 * before);
});

test('an event that is sent twice is written once', async () => {
  const { job } = await store.createJob(aJobSpec(), { requestHash: 'h' });
  const start = await workers.attempts.start(job.id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(start.reason);
  const { attempt } = start;
  await workers.attempts.check(attempt);
  expect(await losingReply(0, () => workers.attempts.record(attempt, step))).toBe('done');
  expect(await workers.attempts.record(attempt, { ...step, data: { ...step.data, step: 2 } })).toBe('done');
  const steps = (await store.readEvents(job.id)).data.filter(({ type }) => type === 'step-finished');
  expect(steps.map(({ data }) => data)).toMatchObject([{ step: 1 }, { step: 2 }]);
});
