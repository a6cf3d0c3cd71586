import { type CheckpointReference, type JobId, UNFINISHED_STATUSES } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';
import { repliesOf } from './redis-errors.js';

/** Looked at in one go. */
const BATCH = 1_000;

/** The jobs of whose checkpoints unfinished ones make an adapter. */
export async function jobsBeingPublished({ redis, keys }: { redis: Redis; keys: JobKeys }): Promise<Set<JobId>> {
  const sources = new Set<JobId>();
  for (const status of UNFINISHED_STATUSES) {
    const ids = (await redis.zrange(keys.withStatus(status), '0', '-1')) as JobId[];
    for (let from = 0; from < ids.length; from += BATCH) {
      const look = redis.pipeline();
      for (const id of ids.slice(from, from + BATCH)) look.hmget(keys.job(id), 'kind', 'checkpoint');
      for (const [kind, checkpoint] of repliesOf(await look.exec()) as (string | null)[][]) {
        if (kind === 'publish-checkpoint') sources.add((JSON.parse(checkpoint!) as CheckpointReference).job);
      }
    }
  }
  return sources;
}
