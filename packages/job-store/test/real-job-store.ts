import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { createJobStore, type JobStore, jobKeys, QUEUE_NAME } from '../src/index.js';

/** A real Redis, one per test file. */
export let server: RealRedis;
export let redis: Redis;
/** For the current test: an empty store, the prefix of its keys, and its BullMQ queue. */
export let store: JobStore;
export let prefix: string;
export let queue: Queue;

/** Creates {@link store} and the others before each test of the file and closes them after it. @param name - Of the file */
export function useJobStore(name: string): void {
  let round = 0;
  beforeAll(async () => {
    server = await startRealRedis();
    redis = new Redis(server.url, { maxRetriesPerRequest: null });
  });
  afterAll(async () => {
    await redis.quit();
    await server.stop();
  });
  beforeEach(() => {
    prefix = `${server.prefix}{${name}-${round++}}:`;
    store = createJobStore({ redis, prefix });
    queue = new Queue(QUEUE_NAME, { connection: redis, prefix: jobKeys(prefix).queuePrefix });
  });
  afterEach(async () => {
    await store.close();
    await queue.close();
  });
}
