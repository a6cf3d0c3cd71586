import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { type CheckpointDescription, checkpointBytes, listCheckpoints, removeIncomplete } from '@lorasmith/artifacts';
import { type Checkpoint, ENDED_STATUSES, type JobId, ProductError } from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/queue';
import { totalBytes } from '@lorasmith/storage';
import type { CheckpointMirror } from './checkpoint-mirror.js';
import { type CheckpointQuotas, checkpointsBeyond, type JobCheckpoints } from './checkpoint-quota.js';

const JOB_ID = /^job_[0-9a-z]+$/;
const ATTEMPT = /^attempt-(\d+)$/;

/**
 * The files of a job on disk: `jobs/<job>/checkpoints`, `jobs/<job>/tensorboard`, and one output folder per attempt until the job has
 * ended.
 */
export interface JobFolders {
  /** Makes the folders of an attempt: an empty one for its output, and the checkpoints, also those of other hosts. */
  prepare(attempt: JobAttempt): Promise<{ checkpointFolder: string; outputFolder: string }>;
  /** The folder of a job's log for TensorBoard, on this host. */
  logOf(id: JobId): string;
  /** The folder of a job's checkpoints, also those that other hosts saved. */
  checkpointsOf(id: JobId): Promise<string>;
  /** The checkpoints in a job's folder, newest first, as its record lists them. */
  list(id: JobId): Promise<Checkpoint[]>;
  /**
   * Stores the current checkpoints where other hosts find them. However many calls are made while one runs, it runs once
   * more. Does nothing where hosts share no store.
   */
  storeCheckpoints(attempt: JobAttempt): Promise<void>;
  /** Removes the incomplete checkpoints of the attempt's trainer, which has ended. */
  removeIncomplete(attempt: JobAttempt): Promise<void>;
  /** Removes the output folders of this attempt and of those before it, whose worker may have died. */
  removeAttempt(attempt: JobAttempt): Promise<void>;
  /** Removes everything of the job, also its checkpoints in the shared store. */
  removeJob(id: JobId): Promise<void>;
  /**
   * Removes from the store the folders of deleted jobs, and of ended jobs whose checkpoints are too old or beyond the quotas, except those
   * whose checkpoints are being published. Of other ended jobs it removes what a worker that died had left beside the checkpoints. One
   * worker does this for all.
   * @param signal - Ends it early.
   * @returns how many folders it removed
   */
  sweep(store: SweptStore, signal?: AbortSignal): Promise<number>;
  /**
   * The same for the copies on this host, where the store is elsewhere: also those whose checkpoints another host has removed. Each host does
   * this. @returns 0 where the folder of this host is the store
   */
  sweepCopies(store: SweptStore, signal?: AbortSignal): Promise<number>;
}

export type SweptStore = Pick<JobStore, 'getJob' | 'checkpoints' | 'whileEnded'>;

export interface JobFoldersOptions {
  dataDir: string;
  /** The copies in the store that several hosts share; null: checkpoints are on this host alone. @defaultValue null */
  mirror?: CheckpointMirror | null;
  /** How long the checkpoints of an ended job are retained. */
  retentionMs: number;
  quotas: CheckpointQuotas;
}

export function createJobFolders({ dataDir, mirror = null, retentionMs, quotas }: JobFoldersOptions): JobFolders {
  const root = path.join(dataDir, 'jobs');
  const folderOf = (id: JobId) => {
    // An id from the queue must not lead out of the folder.
    if (!JOB_ID.test(id)) throw new Error(`createJobFolders: ${JSON.stringify(id)} is not the id of a job`);
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
  const removeAttempts = async (id: JobId, upTo: number): Promise<void> => {
    for (const name of await readdir(folderOf(id)).catch(emptyWhereAbsent)) {
      const number = ATTEMPT.exec(name)?.[1];
      if (number !== undefined && Number(number) <= upTo)
        await rm(path.join(folderOf(id), name), { recursive: true, force: true });
    }
  };

  const beyondQuotas = async (store: SweptStore, jobs: JobCheckpoints[]): Promise<JobId[]> => {
    if (checkpointsBeyond(jobs, quotas).length === 0) return [];
    // Checkpoints of which an adapter is being made stay, too.
    const published = await store.checkpoints.jobsBeingPublished();
    const known = jobs.map((one) => (published.has(one.job) ? { ...one, endedAt: null } : one));
    return checkpointsBeyond(known, quotas);
  };

  /** @returns whether it was removed: not where the job was resumed, or another worker works on it */
  const removeEnded = async (store: SweptStore, id: JobId): Promise<boolean> => {
    const removed = await store.whileEnded(id, ENDED_STATUSES, async () => {
      // First, so that every checkpoint in the list exists.
      await store.checkpoints.forget(id);
      await removeJob(id);
      return true;
    });
    return removed ?? false;
  };

  const foldersHere = async (): Promise<string[]> => {
    await mkdir(root, { recursive: true });
    return await readdir(root);
  };

  /** @param onRetained - Gets each job that keeps its folder. @returns how many folders were removed */
  const removeExpired = async (
    store: SweptStore,
    ids: readonly string[],
    {
      signal,
      onRetained,
    }: { signal: AbortSignal | undefined; onRetained: (job: JobCheckpoints & { recorded: number }) => void },
  ): Promise<number> => {
    const expired: { id: JobId; isDeleted: boolean }[] = [];
    for (const id of ids) {
      if (signal?.aborted) return 0;
      if (!JOB_ID.test(id)) continue;
      const job = await store.getJob(id);
      if (job === null) {
        expired.push({ id, isDeleted: true });
        continue;
      }
      const endedAt = ENDED_STATUSES.includes(job.status) ? new Date(job.ended_at ?? '') : null;
      if (endedAt !== null && Date.now() - endedAt.getTime() >= retentionMs) {
        expired.push({ id, isDeleted: false });
        continue;
      }
      if (endedAt !== null) {
        // Nothing that was written after its end: another worker may have resumed it since.
        await removeIncomplete(checkpointFolderOf(id), { writtenBefore: endedAt });
        await removeAttempts(id, job.attempts);
      }
      const recorded = await recordedBytes(store, id);
      // The record may list fewer than there are, and this host may have fewer than others.
      const bytes = Math.max(recorded, await checkpointBytes(checkpointFolderOf(id)));
      onRetained({ job: id, owner: job.owner, endedAt, bytes, recorded });
    }
    if (expired.length === 0) return 0;
    // Read after the records: of a job that was deleted before, nobody begins to publish a checkpoint now.
    const published = await store.checkpoints.jobsBeingPublished();
    let removed = 0;
    for (const { id, isDeleted } of expired) {
      if (signal?.aborted) return removed;
      if (published.has(id)) continue;
      if (isDeleted) await removeJob(id);
      else if (!(await removeEnded(store, id))) continue;
      removed++;
    }
    return removed;
  };

  return {
    async prepare(attempt) {
      const checkpointFolder = await bringCheckpoints(attempt.job.id);
      // Not those of later attempts: a preparation that was stopped may come here late.
      await removeAttempts(attempt.job.id, attempt.number);
      const outputFolder = outputOf(attempt);
      await mkdir(outputFolder);
      return { checkpointFolder, outputFolder };
    },
    logOf: (id) => path.join(folderOf(id), 'tensorboard'),
    checkpointsOf: bringCheckpoints,
    list: (id) => recordedCheckpoints(id, checkpointFolderOf(id)),
    storeCheckpoints: ({ job }) => storeNow(job.id),
    removeIncomplete: ({ job }) => removeIncomplete(checkpointFolderOf(job.id)),
    removeAttempt: ({ job, number }) => removeAttempts(job.id, number),
    removeJob,
    async sweep(store, signal) {
      const retained: JobCheckpoints[] = [];
      let removed = await removeExpired(store, mirror === null ? await foldersHere() : await mirror.jobs(), {
        signal,
        onRetained: (one) => void retained.push(one),
      });
      if (signal?.aborted) return removed;
      for (const id of await beyondQuotas(store, retained)) if (await removeEnded(store, id)) removed++;
      return removed;
    },
    async sweepCopies(store, signal) {
      if (mirror === null) return 0;
      const forgotten: JobId[] = [];
      let removed = await removeExpired(store, await foldersHere(), {
        signal,
        onRetained: ({ job, endedAt, bytes, recorded }) => {
          if (endedAt !== null && bytes > 0 && recorded === 0) forgotten.push(job);
        },
      });
      for (const id of forgotten) {
        // Not those in the store: the worker may have died before it could record them.
        const folder = folderOf(id);
        const removal = () => rm(folder, { recursive: true, force: true }).then(() => true);
        if (await store.whileEnded(id, ENDED_STATUSES, removal)) removed++;
      }
      return removed;
    },
  };
}

/** The size of the checkpoints that the record lists. */
async function recordedBytes(store: SweptStore, id: JobId): Promise<number> {
  const checkpoints = await store.checkpoints.list(id).catch((error: unknown) => {
    // Deleted since; the next sweep removes its folder.
    if (error instanceof ProductError && error.code === 'job_not_found') return [];
    throw error;
  });
  return totalBytes(checkpoints);
}

async function recordedCheckpoints(job: JobId, folder: string): Promise<Checkpoint[]> {
  const described = await listCheckpoints(folder);
  const best = bestOf(described);
  return described.map(({ step, bytes, savedAt, progress }, index) => ({
    object: 'checkpoint',
    job,
    step,
    epoch: progress.epoch,
    train_loss: progress.trainLoss,
    eval_loss: progress.evaluation?.loss ?? null,
    is_best: step === best?.step,
    is_last: index === 0,
    bytes,
    created_at: savedAt.toISOString(),
  }));
}

/** The earliest with the lowest loss; null where none was evaluated. */
function bestOf(newestFirst: CheckpointDescription[]): CheckpointDescription | null {
  let best: CheckpointDescription | null = null;
  for (const one of newestFirst) {
    const loss = one.progress.evaluation?.loss;
    if (loss !== undefined && loss <= (best?.progress.evaluation?.loss ?? Number.POSITIVE_INFINITY)) best = one;
  }
  return best;
}

/** A job may have checkpoints in the shared store and no folder on this host. */
function emptyWhereAbsent(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return [];
  throw error;
}
