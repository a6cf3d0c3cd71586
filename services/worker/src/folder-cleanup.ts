import { ENDED_STATUSES, type Job, type JobId, type Owner, ProductError } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { totalBytes } from '@lorasmith/storage';
import { isJobId, type JobFolders } from './job-folders.js';

/** The bytes of checkpoints that may be stored. */
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

export type SweptStore = Pick<JobStore, 'getJob' | 'checkpoints' | 'whileEnded'>;

export interface FolderSweepsOptions {
  folders: JobFolders;
  /** The time for which the checkpoints of an ended job are retained. */
  retentionMs: number;
  quotas: CheckpointQuotas;
}

/** A job that keeps its folder, with the bytes of checkpoints that its record lists. */
type RetainedJob = JobCheckpoints & { recorded: number };

/** Removes the folders of jobs that nobody needs any more. */
export class FolderSweeps {
  readonly #options: FolderSweepsOptions;

  constructor(options: FolderSweepsOptions) {
    this.#options = options;
  }

  /**
   * Removes from the store the folders of deleted jobs, and of ended jobs whose checkpoints are too old or beyond the quotas, except those
   * whose checkpoints are being published. Of other ended jobs it removes what a worker that died had left in addition to the checkpoints.
   * One worker does this for all.
   * @param signal - Ends it early.
   * @returns the count of folders that it removed
   */
  async sweep(store: SweptStore, signal?: AbortSignal): Promise<number> {
    const { folders } = this.#options;
    const { retained, expired } = await this.#sort(store, await folders.jobsInStore(), signal);
    let removed = await this.#removeExpired(store, expired, signal);
    if (signal?.aborted) return removed;
    for (const id of await this.#beyondQuotas(store, retained)) if (await this.#removeEnded(store, id)) removed++;
    return removed;
  }

  /**
   * The same for the copies on this host, where the store is elsewhere: also those whose checkpoints another host has removed. Each host does
   * this. @returns 0 where the folder of this host is the store
   */
  async sweepCopies(store: SweptStore, signal?: AbortSignal): Promise<number> {
    const { folders } = this.#options;
    if (!folders.areCopies) return 0;
    const { retained, expired } = await this.#sort(store, await folders.jobsOnHost(), signal);
    let removed = await this.#removeExpired(store, expired, signal);
    for (const { job, endedAt, bytes, recorded } of retained) {
      if (endedAt === null || bytes === 0 || recorded > 0) continue;
      // Not those in the store: the worker may have died before it could record them.
      const removal = () => folders.removeCopy(job).then(() => true);
      if (await store.whileEnded(job, ENDED_STATUSES, removal)) removed++;
    }
    return removed;
  }

  /** Divides jobs into those that keep their folder and those that do not. Of neither where it is ended early. */
  async #sort(
    store: SweptStore,
    names: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<{ retained: RetainedJob[]; expired: { id: JobId; isDeleted: boolean }[] }> {
    const retained: RetainedJob[] = [];
    const expired: { id: JobId; isDeleted: boolean }[] = [];
    for (const id of names) {
      if (signal?.aborted) return { retained, expired: [] };
      if (!isJobId(id)) continue;
      const job = await store.getJob(id);
      const endedAt = job !== null && ENDED_STATUSES.includes(job.status) ? new Date(job.ended_at ?? '') : null;
      const isTooOld = endedAt !== null && Date.now() - endedAt.getTime() >= this.#options.retentionMs;
      if (job === null || isTooOld) expired.push({ id, isDeleted: job === null });
      else retained.push(await this.#retain(store, job, endedAt));
    }
    return { retained, expired };
  }

  /** Removes what is left in addition to the checkpoints of a job that has ended. */
  async #retain(store: SweptStore, { id, owner, attempts }: Job, endedAt: Date | null): Promise<RetainedJob> {
    const { folders } = this.#options;
    // Nothing that was written after its end: another worker may have resumed it since.
    if (endedAt !== null) await folders.removeLeftovers(id, { writtenBefore: endedAt, attempts });
    const recorded = await recordedBytes(store, id);
    // The record may list fewer than there are, and this host may have fewer than others.
    const bytes = Math.max(recorded, await folders.bytesOnHost(id));
    return { job: id, owner, endedAt, bytes, recorded };
  }

  /** @returns the count of folders that were removed */
  async #removeExpired(
    store: SweptStore,
    expired: readonly { id: JobId; isDeleted: boolean }[],
    signal: AbortSignal | undefined,
  ): Promise<number> {
    if (expired.length === 0) return 0;
    // Read after the records: of a job that was deleted before, nobody begins to publish a checkpoint now.
    const published = await store.checkpoints.jobsBeingPublished();
    let removed = 0;
    for (const { id, isDeleted } of expired) {
      if (signal?.aborted) return removed;
      if (published.has(id)) continue;
      if (isDeleted) await this.#options.folders.removeJob(id);
      else if (!(await this.#removeEnded(store, id))) continue;
      removed++;
    }
    return removed;
  }

  async #beyondQuotas(store: SweptStore, jobs: readonly JobCheckpoints[]): Promise<JobId[]> {
    const { quotas } = this.#options;
    if (checkpointsBeyond(jobs, quotas).length === 0) return [];
    // Checkpoints of which an adapter is being made stay, too.
    const published = await store.checkpoints.jobsBeingPublished();
    const known = jobs.map((one) => (published.has(one.job) ? { ...one, endedAt: null } : one));
    return checkpointsBeyond(known, quotas);
  }

  /** @returns true if it was removed: not where the job was resumed, or another worker works on it */
  async #removeEnded(store: SweptStore, id: JobId): Promise<boolean> {
    const removed = await store.whileEnded(id, ENDED_STATUSES, async () => {
      // First, so that every checkpoint in the list exists.
      await store.checkpoints.forget(id);
      await this.#options.folders.removeJob(id);
      return true;
    });
    return removed ?? false;
  }
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
function checkpointsBeyond(jobs: readonly JobCheckpoints[], { ofKey, inAll }: CheckpointQuotas): JobId[] {
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
