import { Queue } from 'bullmq';
import { afterEach, beforeEach } from 'vitest';
import { prefix, redis, useRedis } from '../../../test/use-redis.js';
import { createJobStore, type JobStore, jobKeys, QUEUE_NAME } from '../src/index.js';

export { prefix, redis, server } from '../../../test/use-redis.js';

/** An empty store for the current test, and its BullMQ queue. */
export let store: JobStore;
export let queue: Queue;

/** Creates {@link store} and the others before each test of the file and closes them after it. */
export function useJobStore(): void {
  useRedis();
  beforeEach(() => {
    store = createJobStore({ redis, prefix });
    queue = new Queue(QUEUE_NAME, { connection: redis, prefix: jobKeys(prefix).queuePrefix });
  });
  afterEach(async () => {
    await store.close();
    await queue.close();
  });
}
