import type { JobId, Owner } from '@lorasmith/contracts';

/** How many bytes of checkpoints may be stored. */
export interface CheckpointQuotas {
  /** Bytes of one API key. Jobs that were made without a key count only towards the total. */
  ofKey: number;
  inAll: number;
}

/** The checkpoints of one job. */
export interface JobCheckpoints {
  job: JobId;
  owner: Owner;
  /** Null: it has not ended. */
  endedAt: Date | null;
  bytes: number;
}

/** The checkpoints counted of one owner, whose jobs are looked at newest first. */
interface OwnerUsage {
  bytes: number;
  hasEnded: boolean;
  isFull: boolean;
}

/**
 * The jobs whose checkpoints must be removed: those that ended longest ago, of a key beyond its quota and of all beyond
 * the total. Checkpoints of unfinished jobs count and stay. So do those of a key's job that ended last, unless the total
 * has no space for them.
 */
export function checkpointsBeyond(jobs: readonly JobCheckpoints[], { ofKey, inAll }: CheckpointQuotas): JobId[] {
  const usages = new Map<Owner, OwnerUsage>();
  for (const { owner, endedAt, bytes } of jobs) {
    const usage = usages.get(owner) ?? { bytes: 0, hasEnded: false, isFull: false };
    usages.set(owner, { ...usage, bytes: usage.bytes + (endedAt === null ? bytes : 0) });
  }
  let all = 0;
  // A key whose unfinished jobs exceed its quota takes nothing from others.
  for (const [owner, { bytes }] of usages) all += owner === null ? bytes : Math.min(bytes, ofKey);
  let isFull = false;
  const beyond: JobId[] = [];
  for (const { job, owner, bytes } of newestFirst(jobs)) {
    const own = usages.get(owner)!;
    own.isFull ||= owner !== null && own.hasEnded && own.bytes + bytes > ofKey;
    own.hasEnded = true;
    if (!own.isFull) isFull ||= all + bytes > inAll;
    if (own.isFull || isFull) {
      beyond.push(job);
      continue;
    }
    own.bytes += bytes;
    all += bytes;
  }
  return beyond;
}

function newestFirst(jobs: readonly JobCheckpoints[]): JobCheckpoints[] {
  const ended = jobs.filter(({ endedAt }) => endedAt !== null);
  return ended.sort((one, other) => other.endedAt!.getTime() - one.endedAt!.getTime());
}
