import type { JobId, Owner } from '@lorasmith/contracts';

/** Bytes of checkpoints that are kept at most. */
export interface CheckpointLimits {
  /** Of an API key. What was made without a key counts only among all. */
  ofKey: number;
  /** Of everybody. */
  inAll: number;
}

/** What a job has on disk. */
export interface JobCheckpoints {
  job: JobId;
  owner: Owner;
  /** Null: it goes on. */
  endedAt: Date | null;
  bytes: number;
}

/**
 * The jobs whose checkpoints have to go: those that do not fit beside what is newer, of their owner and of all. Those of
 * unfinished jobs count, and stay.
 */
export function checkpointsBeyond(kept: readonly JobCheckpoints[], { ofKey, inAll }: CheckpointLimits): JobId[] {
  const endOf = ({ endedAt }: JobCheckpoints) => endedAt?.getTime() ?? Number.MAX_SAFE_INTEGER;
  const ofOwners = new Map<Owner, number>();
  let all = 0;
  const beyond: JobId[] = [];
  for (const { job, owner, endedAt, bytes } of kept.toSorted((a, b) => endOf(b) - endOf(a))) {
    const own = (ofOwners.get(owner) ?? 0) + bytes;
    if (endedAt !== null && ((owner !== null && own > ofKey) || all + bytes > inAll)) {
      beyond.push(job);
      continue;
    }
    ofOwners.set(owner, own);
    all += bytes;
  }
  return beyond;
}
