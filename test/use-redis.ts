import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { type RealRedis, startRealRedis } from './real-redis.js';

/** A real Redis, one per test file, and a connection to it. */
export let server: RealRedis;
export let redis: Redis;
/** The prefix of the current test's keys, which no other test has. */
export let prefix: string;

/** Starts {@link server} before the tests of a file, and stops it after them. */
export function useRedis(): void {
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
    prefix = `${server.prefix}{${round++}}:`;
  });
}
