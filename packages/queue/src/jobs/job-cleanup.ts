import { randomUUID } from 'node:crypto';
import type { JobId, JobStatus } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { endLeaseScript, renewLeaseScript } from '../redis/lease.js';
import { luaScript } from '../redis/lua-script.js';
import { onRedis } from '../redis/redis-errors.js';

const CLEANUP_MS = 60_000;
const RENEWAL_MS = 15_000;

const startCleanupScript = luaScript(import.meta.url, './start-cleanup.lua');

/** @see JobStore.whileEnded */
export async function whileEnded<Result>(
  { redis, keys }: { redis: Redis; keys: JobKeys },
  id: JobId,
  statuses: readonly JobStatus[],
  work: () => Promise<Result>,
): Promise<Result | null> {
  const token = randomUUID();
  const cleanup = keys.cleanup(id);
  const held = { token, lease_ms: CLEANUP_MS };
  const started = await onRedis(() =>
    startCleanupScript(redis, { record: keys.job(id), cleanup }, { allowed_statuses: statuses.join(), ...held }),
  );
  if (started !== 1) return null;
  const renewal = setInterval(() => {
    renewLeaseScript(redis, { lease: cleanup }, held).catch(() => {});
  }, RENEWAL_MS).unref();
  try {
    return await work();
  } finally {
    clearInterval(renewal);
    // If Redis cannot be reached, the cleanup expires.
    await endLeaseScript(redis, { lease: cleanup }, { token }).catch(() => {});
  }
}
