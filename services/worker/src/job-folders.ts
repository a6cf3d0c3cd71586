import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { checkpointBytes, removeHalfWritten } from '@lorasmith/checkpoints';
import { ENDED_STATUSES, type JobId, ProductError } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/job-store';
import type { CheckpointMirror } from './checkpoint-mirror.js';
import { type CheckpointLimits, checkpointsBeyond, type JobCheckpoints } from './checkpoint-room.js';

const JOB_ID = /^job_[0-9a-z]+$/;
const ATTEMPT = /^attempt-(\d+)$/;

/** What a job keeps on disk: `jobs/<job>/checkpoints`, and while it is not done one output folder per attempt. */
export interface JobFolders {
  /** Makes the folders of an attempt, its output folder empty; with the checkpoints that other hosts saved. */
  prepare(attempt: JobAttempt): Promise<{ checkpointFolder: string; outputFolder: string }>;
  /** The folder of a job's checkpoints, with those that other hosts saved. */
  checkpointsOf(id: JobId): Promise<string>;
  /**
   * Stores the checkpoints there are now where other hosts find them. Calls during one that runs are one more after it.
   * Nothing where hosts share nothing.
   */
  storeCheckpoints(attempt: JobAttempt): Promise<void>;
  /** Removes what the attempt's trainer, which is dead, was writing beside the checkpoints. */
  removeHalfWritten(attempt: JobAttempt): Promise<void>;
  /** Removes what only the attempt needed, and those before it whose worker died. */
  removeAttempt(attempt: JobAttempt): Promise<void>;
  /** Removes all of the job, its checkpoints too, on every host's store. */
  removeJob(id: JobId): Promise<void>;
  /**
   * Removes the folders of jobs that were deleted, and of those that ended so long ago, or before so many bytes of other
   * checkpoints, that theirs are kept no more; of others that ended, what a worker that died had left beside the
   * checkpoints.
   * @param signal ends it early
   * @returns how many folders
   */
  sweep(store: SweptStore, signal?: AbortSignal): Promise<number>;
}

export type SweptStore = Pick<
  JobStore,
  'getJob' | 'checkpoints' | 'forgetCheckpoints' | 'whileEnded' | 'jobsBeingPublished'
>;

export interface JobFoldersOptions {
  dataDir: string;
  /** Of a store that several hosts share; null: checkpoints are on this host alone. @defaultValue null */
  mirror?: CheckpointMirror | null;
  /** For so long checkpoints of a job that has ended are kept. */
  keptMs: number;
  /** So much of checkpoints is kept. */
  keptBytes: CheckpointLimits;
}

export function createJobFolders({ dataDir, mirror = null, keptMs, keptBytes }: JobFoldersOptions): JobFolders {
  const root = path.join(dataDir, 'jobs');
  const folderOf = (id: JobId) => {
    // What comes from the queue must not lead out of the folder.
    if (!JOB_ID.test(id)) throw new Error(`createJobFolders: ${JSON.stringify(id)} is no id of a job`);
    return path.join(root, id);
  };
  const outputOf = ({ job, number }: JobAttempt) => path.join(folderOf(job.id), `attempt-${number}`);
  const checkpointFolderOf = (id: JobId) => path.join(folderOf(id), 'checkpoints');
  const storing = new Map<JobId, { running: Promise<void>; next: Promise<void> | null }>();

  const removeJob = async (id: JobId): Promise<void> => {
    await rm(folderOf(id), { recursive: true, force: true });
    await mirror?.remove(id);
  };
  const storeNow = (id: JobId): Promise<void> => {
    if (mirror === null) return Promise.resolve();
    const current = storing.get(id);
    if (current !== undefined) {
      current.next ??= current.running.catch(() => {}).then(() => storeNow(id));
      return current.next;
    }
    const running = mirror.store(id, checkpointFolderOf(id)).finally(() => storing.delete(id));
    storing.set(id, { running, next: null });
    return running;
  };

  const bringCheckpoints = async (id: JobId): Promise<string> => {
    const folder = checkpointFolderOf(id);
    await mkdir(folder, { recursive: true });
    await mirror?.restore(id, folder);
    return folder;
  };
  /** Of attempts whose worker died, too. */
  const removeAttempts = async (id: JobId, upTo: number): Promise<void> => {
    for (const name of await readdir(folderOf(id)).catch(emptyWhereAbsent)) {
      const number = ATTEMPT.exec(name)?.[1];
      if (number !== undefined && Number(number) <= upTo)
        await rm(path.join(folderOf(id), name), { recursive: true, force: true });
    }
  };

  const beyondLimits = async (store: SweptStore, kept: JobCheckpoints[]): Promise<JobId[]> => {
    if (checkpointsBeyond(kept, keptBytes).length === 0) return [];
    // What an adapter is being made of stays, too.
    const wanted = await store.jobsBeingPublished();
    const known = kept.map((one) => (wanted.has(one.job) ? { ...one, endedAt: null } : one));
    return checkpointsBeyond(known, keptBytes);
  };

  /** @returns whether it was removed: not where the job was resumed, or another worker is at it */
  const removeEnded = async (store: SweptStore, id: JobId): Promise<boolean> => {
    const removed = await store.whileEnded(id, ENDED_STATUSES, async () => {
      // First, so that what is listed is there.
      await store.forgetCheckpoints(id);
      await removeJob(id);
      return true;
    });
    return removed ?? false;
  };

  return {
    async prepare(attempt) {
      const checkpointFolder = await bringCheckpoints(attempt.job.id);
      // Not of a later one: a preparation that nobody waits for any more may come here late.
      await removeAttempts(attempt.job.id, attempt.number);
      const outputFolder = outputOf(attempt);
      await mkdir(outputFolder);
      return { checkpointFolder, outputFolder };
    },
    checkpointsOf: bringCheckpoints,
    storeCheckpoints: ({ job }) => storeNow(job.id),
    removeHalfWritten: ({ job }) => removeHalfWritten(checkpointFolderOf(job.id)),
    removeAttempt: ({ job, number }) => removeAttempts(job.id, number),
    removeJob,
    async sweep(store, signal) {
      await mkdir(root, { recursive: true });
      let removed = 0;
      const kept: JobCheckpoints[] = [];
      const ids = new Set([...(await readdir(root)), ...((await mirror?.jobs()) ?? [])]);
      for (const id of ids) {
        if (signal?.aborted) return removed;
        if (!JOB_ID.test(id)) continue;
        const job = await store.getJob(id);
        if (job === null) {
          await removeJob(id);
          removed++;
          continue;
        }
        const endedAt = ENDED_STATUSES.includes(job.status) ? new Date(job.ended_at ?? '') : null;
        if (endedAt !== null && Date.now() - endedAt.getTime() >= keptMs) {
          if (await removeEnded(store, id)) removed++;
          continue;
        }
        if (endedAt !== null) {
          // Nothing from after its end: it may have been resumed since, and be another worker's.
          await removeHalfWritten(checkpointFolderOf(id), { writtenBefore: endedAt });
          await removeAttempts(id, job.attempts);
        }
        // Another host may have more of it than the record says, or than this one.
        const bytes = Math.max(await recordedBytes(store, id), await checkpointBytes(checkpointFolderOf(id)));
        kept.push({ job: id, owner: job.owner, endedAt, bytes });
      }
      for (const id of await beyondLimits(store, kept)) if (await removeEnded(store, id)) removed++;
      return removed;
    },
  };
}

/** What the checkpoints take that the record lists. */
async function recordedBytes(store: SweptStore, id: JobId): Promise<number> {
  const checkpoints = await store.checkpoints(id).catch((error: unknown) => {
    // Deleted since: its folder goes at the next sweep.
    if (error instanceof ProductError && error.code === 'job_not_found') return [];
    throw error;
  });
  return checkpoints.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** A job may have checkpoints in the store and no folder here. */
function emptyWhereAbsent(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return [];
  throw error;
}
