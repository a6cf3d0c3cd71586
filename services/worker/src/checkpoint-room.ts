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

/** Of one owner, as its jobs are gone through, newest first. */
interface OwnRoom {
  bytes: number;
  hasEnded: boolean;
  isFull: boolean;
}

/**
 * The jobs whose checkpoints have to go: of a key, and of all, those that ended longest ago. Those of unfinished jobs
 * count, and stay; so do those of the job of a key that ended last, unless there is no room for them among all.
 */
export function checkpointsBeyond(kept: readonly JobCheckpoints[], { ofKey, inAll }: CheckpointLimits): JobId[] {
  const rooms = new Map<Owner, OwnRoom>();
  for (const { owner, endedAt, bytes } of kept) {
    const room = rooms.get(owner) ?? { bytes: 0, hasEnded: false, isFull: false };
    rooms.set(owner, { ...room, bytes: room.bytes + (endedAt === null ? bytes : 0) });
  }
  let all = 0;
  // A key whose unfinished jobs have more than it may takes nothing from others.
  for (const [owner, { bytes }] of rooms) all += owner === null ? bytes : Math.min(bytes, ofKey);
  let isFull = false;
  const beyond: JobId[] = [];
  for (const { job, owner, bytes } of newestFirst(kept)) {
    const own = rooms.get(owner)!;
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

function newestFirst(kept: readonly JobCheckpoints[]): JobCheckpoints[] {
  const ended = kept.filter(({ endedAt }) => endedAt !== null);
  return ended.sort((one, other) => other.endedAt!.getTime() - one.endedAt!.getTime());
}
