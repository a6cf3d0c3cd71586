import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { type CheckpointDescription, checkpointBytes, listCheckpoints, removeIncomplete } from '@lorasmith/artifacts';
import type { Checkpoint, JobId } from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/queue';
import type { CheckpointMirror } from './checkpoint-mirror.js';

const JOB_ID = /^job_[0-9a-z]+$/;
const ATTEMPT = /^attempt-(\d+)$/;

export interface JobFoldersOptions {
  dataDir: string;
  /** The copies in the store that several hosts share; null: checkpoints are on this host alone. @defaultValue null */
  mirror?: CheckpointMirror | null;
}

/**
 * The files of a job on disk: `jobs/<job>/checkpoints`, `jobs/<job>/tensorboard`, and one output folder per attempt until the job has
 * ended.
 */
export class JobFolders {
  readonly #root: string;
  readonly #mirror: CheckpointMirror | null;
  readonly #storing = new Map<JobId, { running: Promise<void>; next: Promise<void> | null }>();

  constructor({ dataDir, mirror = null }: JobFoldersOptions) {
    this.#root = path.join(dataDir, 'jobs');
    this.#mirror = mirror;
  }

  /** True if the store is elsewhere and the folders of this host are copies of it. */
  get areCopies(): boolean {
    return this.#mirror !== null;
  }

  /** Makes the folders of an attempt: an empty one for its output, and the checkpoints, also those of other hosts. */
  async prepare({ job, number }: JobAttempt): Promise<{ checkpointFolder: string; outputFolder: string }> {
    const checkpointFolder = await this.checkpointsOf(job.id);
    // Not those of later attempts: a preparation that was stopped may come here late.
    await this.#removeAttempts(job.id, number);
    const outputFolder = path.join(this.#folderOf(job.id), `attempt-${number}`);
    await mkdir(outputFolder);
    return { checkpointFolder, outputFolder };
  }

  /** The folder of a job's log for TensorBoard, on this host. */
  logOf(id: JobId): string {
    return path.join(this.#folderOf(id), 'tensorboard');
  }

  /** The folder of a job's checkpoints, also those that other hosts saved. */
  async checkpointsOf(id: JobId): Promise<string> {
    const folder = this.#checkpointFolderOf(id);
    await mkdir(folder, { recursive: true });
    await this.#mirror?.restore(id, folder);
    return folder;
  }

  /** The checkpoints in a job's folder, newest first, as its record lists them. */
  list(id: JobId): Promise<Checkpoint[]> {
    return recordedCheckpoints(id, this.#checkpointFolderOf(id));
  }

  /**
   * Stores the current checkpoints where other hosts find them. However many calls are made while one runs, it runs once
   * more. Does nothing where hosts share no store.
   */
  storeCheckpoints({ job }: JobAttempt): Promise<void> {
    return this.#store(job.id);
  }

  /** Removes the incomplete checkpoints of the attempt's trainer, which has ended. */
  removeIncomplete({ job }: JobAttempt): Promise<void> {
    return removeIncomplete(this.#checkpointFolderOf(job.id));
  }

  /** Removes the output folders of this attempt and of those before it, whose worker may have died. */
  removeAttempt({ job, number }: JobAttempt): Promise<void> {
    return this.#removeAttempts(job.id, number);
  }

  /** Removes incomplete checkpoints that were written before a time, and the output folders of the attempts up to a number. */
  async removeLeftovers(
    id: JobId,
    { writtenBefore, attempts }: { writtenBefore: Date; attempts: number },
  ): Promise<void> {
    await removeIncomplete(this.#checkpointFolderOf(id), { writtenBefore });
    await this.#removeAttempts(id, attempts);
  }

  /** Removes everything of the job, also its checkpoints in the shared store. */
  async removeJob(id: JobId): Promise<void> {
    await this.removeCopy(id);
    await this.#mirror?.remove(id);
  }

  /** Removes everything of the job on this host. */
  async removeCopy(id: JobId): Promise<void> {
    await rm(this.#folderOf(id), { recursive: true, force: true });
  }

  /** The names of the folders in the store: ids of jobs, and perhaps others. */
  async jobsInStore(): Promise<string[]> {
    return this.#mirror === null ? await this.jobsOnHost() : await this.#mirror.jobs();
  }

  /** The names of the folders on this host: ids of jobs, and perhaps others. */
  async jobsOnHost(): Promise<string[]> {
    await mkdir(this.#root, { recursive: true });
    return await readdir(this.#root);
  }

  /** The bytes of a job's checkpoints on this host. */
  bytesOnHost(id: JobId): Promise<number> {
    return checkpointBytes(this.#checkpointFolderOf(id));
  }

  #folderOf(id: JobId): string {
    // An id from the queue must not lead out of the folder.
    if (!isJobId(id)) throw new Error(`JobFolders: ${JSON.stringify(id)} is not the id of a job`);
    return path.join(this.#root, id);
  }

  #checkpointFolderOf(id: JobId): string {
    return path.join(this.#folderOf(id), 'checkpoints');
  }

  #store(id: JobId): Promise<void> {
    if (this.#mirror === null) return Promise.resolve();
    const current = this.#storing.get(id);
    if (current !== undefined) {
      current.next ??= current.running.catch(() => {}).then(() => this.#store(id));
      return current.next;
    }
    const running = this.#mirror.store(id, this.#checkpointFolderOf(id)).finally(() => this.#storing.delete(id));
    this.#storing.set(id, { running, next: null });
    return running;
  }

  async #removeAttempts(id: JobId, upTo: number): Promise<void> {
    const folder = this.#folderOf(id);
    for (const name of await readdir(folder).catch(emptyWhereAbsent)) {
      const number = ATTEMPT.exec(name)?.[1];
      if (number !== undefined && Number(number) <= upTo)
        await rm(path.join(folder, name), { recursive: true, force: true });
    }
  }
}

export function isJobId(name: string): boolean {
  return JOB_ID.test(name);
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
