import { readManifest } from '@lorasmith/artifacts';
import {
  ERRORS,
  type ErrorCode,
  type JobFailure,
  jobOrigin,
  ProductError,
  type TrainingResult,
} from '@lorasmith/contracts';
import type { AttemptWrite, JobAttempt, JobStore, ReleaseOptions } from '@lorasmith/queue';
import { asStorageError } from '@lorasmith/storage';
import type { StopReason } from '@lorasmith/training';
import type { Logger } from 'pino';
import type { OrderSources } from './prepare-order.js';
import { adapterIdOf, removeOrphanedAdapter } from './publish-adapter.js';
import type { StopSignal } from './stop-signal.js';
import type { PoolOutcome } from './trainer/messages.js';

/**
 * The way in which the work of an attempt has ended: as its run did, or else
 *
 * - `published`: its adapter is published, by this attempt with this result, or by one before.
 * - `broken`: an error of this process ended it.
 */
export type AttemptEnd =
  | Exclude<PoolOutcome, { kind: 'finished' }>
  | { kind: 'published'; result?: TrainingResult }
  | { kind: 'broken'; error: unknown };

/**
 * The outcome of an attempt that is over, for the queue.
 *
 * - `ended`: the job has ended, as its record says.
 * - `retry`: the attempt failed and the job waits for the next one.
 * - `released`: the job waits for its next attempt, and this one did not fail.
 * - `paused`: the user of the job has paused it.
 * - `lost`: another worker has the job, or will get it, since its record could not be reached.
 */
export type AttemptOutcome =
  | { kind: 'ended'; status: 'succeeded' | 'cancelled' | 'not-needed' }
  | { kind: 'ended'; status: 'failed'; failure: JobFailure }
  | { kind: 'retry'; failure: JobFailure }
  | { kind: 'released' }
  | { kind: 'paused' }
  | { kind: 'lost' };

/** The write that ends an attempt. */
type EndingWrite =
  | { write: 'succeed'; result?: TrainingResult | undefined }
  | { write: 'release'; options?: ReleaseOptions }
  | { write: 'cancel' }
  | { write: 'fail'; failure: JobFailure }
  /** Another worker has the job. */
  | { write: 'nothing' };

/** The write after each way of ending. */
type WriteAfter = {
  [Kind in AttemptEnd['kind']]: (end: Extract<AttemptEnd, { kind: Kind }>) => EndingWrite | Promise<EndingWrite>;
};

const LOST: AttemptOutcome = { kind: 'lost' };

/** Codes with which a trainer fails whose GPU has failed: an error of the driver ends it, or a call of the driver never returns. */
const GPU_MAY_BE_WHY: ReadonlySet<string> = new Set<ErrorCode>(['trainer_crashed', 'trainer_hung']);

export interface EndingOptions {
  store: Pick<JobStore, 'attempts' | 'whileEnded'>;
  sources: OrderSources;
  stopping: StopSignal;
  log: Logger;
  /** An attempt that takes longer is stopped, and its job fails. */
  jobTimeoutMs: number;
  /** Aborted when the job must free its slot for another: it is released after a step, with a checkpoint. */
  pause: AbortSignal;
  /** True if a crash fails the job instead of releasing it for another attempt. */
  isLast: boolean;
  /** The fault of the GPU that trainers use; null when it computes, or when they use none. */
  findGpuFault: () => Promise<string | null>;
  /** Called when the GPU does not compute: no other job would get further. */
  onGpuLost: (fault: string) => void;
}

/**
 * Ends an attempt in the record of its job, with the token of the attempt: where another worker has taken the job meanwhile, nothing
 * is written and the attempt is lost.
 */
export class AttemptEnding {
  readonly #attempt: JobAttempt;
  readonly #options: EndingOptions;

  constructor(attempt: JobAttempt, options: EndingOptions) {
    this.#attempt = attempt;
    this.#options = options;
  }

  async end<Kind extends AttemptEnd['kind']>(end: Extract<AttemptEnd, { kind: Kind }>): Promise<AttemptOutcome> {
    const writeAfter: WriteAfter[Kind] = this.#writeAfter[end.kind as Kind];
    return await this.#write(await writeAfter(end));
  }

  /** True if the adapter of the job is published, perhaps by an attempt that died before it could record that. */
  async isPublished(): Promise<boolean> {
    return await this.#options.sources.adapters.has(adapterIdOf(this.#attempt.job.id));
  }

  async removeOrphanedAdapter(): Promise<void> {
    const { store, sources, log } = this.#options;
    const removed = await removeOrphanedAdapter({ store, adapters: sources.adapters }, this.#attempt.job.id);
    if (removed) log.warn('an adapter that was published after its job had ended was removed');
  }

  readonly #writeAfter: WriteAfter = {
    published: ({ result }) => ({ write: 'succeed', result }),
    stopped: ({ reason }) => this.#writeAfterStop(reason),
    paused: () => {
      const { stopping, pause } = this.#options;
      // A user who withdraws a pause has given up no time slice.
      const isForUser = stopping.pause.aborted && !pause.aborted;
      return { write: 'release', options: { hasHadSlice: !isForUser } };
    },
    'at-rung': (atRung) => ({ write: 'release', options: { atRung } }),
    deferred: ({ why }) => {
      this.#options.log.info({ why }, 'the job waits: it cannot share the trainer with the jobs that run');
      return { write: 'release', options: { startsAlone: true } };
    },
    failed: async ({ failure }) => {
      const fault = await this.#gpuFaultBehind(failure);
      if (fault === null) return { write: 'fail', failure };
      this.#options.onGpuLost(fault);
      return { write: 'release' };
    },
    broken: async ({ error }) => {
      const known = asStorageError(error);
      if (!(known instanceof ProductError)) this.#options.log.error({ err: error }, 'job failed outside its training');
      // An adapter is complete once it is published, whatever failed after that.
      const isPublished = await this.isPublished().catch(() => false);
      return isPublished ? { write: 'succeed' } : { write: 'fail', failure: failureOf(known) };
    },
  };

  #writeAfterStop(reason: StopReason): EndingWrite {
    switch (reason) {
      case 'cancel':
        return { write: 'cancel' };
      case 'shutdown':
        return { write: 'release' };
      case 'time-limit':
        return { write: 'fail', failure: timedOut(this.#options.jobTimeoutMs) };
      case 'lost-job':
        return { write: 'nothing' };
    }
  }

  async #write(write: EndingWrite): Promise<AttemptOutcome> {
    switch (write.write) {
      case 'succeed':
        return await this.#succeed(write.result);
      case 'release':
        return await this.#release(write.options);
      case 'cancel':
        return await this.#cancel();
      case 'fail':
        return await this.#fail(write.failure);
      case 'nothing':
        return LOST;
    }
  }

  /** @param result - Of the training whose state the adapter is. @defaultValue as the manifest of the adapter says */
  async #succeed(result?: TrainingResult): Promise<AttemptOutcome> {
    const { store, sources } = this.#options;
    const { id, kind } = this.#attempt.job;
    const adapter = adapterIdOf(id);
    const of = result ?? (await this.#publishedResult());
    const written = await store.attempts.succeed(this.#attempt, adapter, of?.adapter_step, of?.evaluation_after);
    if (written !== 'done') return LOST;
    // A job that trained keeps its last checkpoints.
    if (kind === 'publish-checkpoint') await sources.folders.removeJob(id);
    return { kind: 'ended', status: 'succeeded' };
  }

  /** The figures of an adapter that an earlier attempt has published; undefined if its manifest cannot be read, which is no fault of the job. */
  async #publishedResult(): Promise<TrainingResult | undefined> {
    const { adapters } = this.#options.sources;
    const manifest = await readManifest(adapters, adapterIdOf(this.#attempt.job.id)).catch(() => null);
    return (manifest && jobOrigin(manifest.origin))?.result;
  }

  /** Returns the job to the waiting ones. Where its user has cancelled or paused it meanwhile, it is cancelled or paused. */
  async #release(options?: ReleaseOptions): Promise<AttemptOutcome> {
    const released = await this.#options.store.attempts.release(this.#attempt, options);
    if (released === 'cancel-requested') return await this.#cancel();
    return released === 'paused' ? { kind: 'paused' } : written(released, { kind: 'released' });
  }

  /** Confirms the cancel of the user. */
  async #cancel(): Promise<AttemptOutcome> {
    const cancelled = await this.#options.store.attempts.cancel(this.#attempt);
    if (cancelled === 'done') await this.removeOrphanedAdapter();
    return written(cancelled, { kind: 'ended', status: 'cancelled' });
  }

  /** Fails the job, or releases it for another attempt where that may succeed. */
  async #fail(failure: JobFailure): Promise<AttemptOutcome> {
    if (isRetryable(failure) && !this.#options.isLast) {
      const run = await this.#release();
      return run.kind === 'released' ? { kind: 'retry', failure } : run;
    }
    const failed = await this.#options.store.attempts.fail(this.#attempt, failure);
    if (failed === 'done') await this.removeOrphanedAdapter();
    return written(failed, { kind: 'ended', status: 'failed', failure });
  }

  /** The fault of the GPU, if a trainer that ended by itself may have ended because of it, which is then no fault of the job. */
  async #gpuFaultBehind({ code, message }: JobFailure): Promise<string | null> {
    if (code === 'gpu_unavailable') return message;
    return GPU_MAY_BE_WHY.has(code) ? await this.#options.findGpuFault() : null;
  }
}

/** The outcome if the write was done; `lost` if another worker has the job. */
function written(write: AttemptWrite, outcome: AttemptOutcome): AttemptOutcome {
  return write === 'done' ? outcome : LOST;
}

/** True if another attempt may succeed: not where the user must fix something, or where it would end the same. */
function isRetryable({ code }: JobFailure): boolean {
  // The same training makes the same adapter.
  if (code === 'adapter_check_failed') return false;
  return (ERRORS[code as ErrorCode]?.status ?? 500) >= 500;
}

function timedOut(jobTimeoutMs: number): JobFailure {
  return {
    code: 'job_timed_out',
    message:
      `The job took longer than the ${jobTimeoutMs / 1000} s that JOB_TIMEOUT_MS allows and was stopped, with a checkpoint if it trained. ` +
      'Resume it to continue from there, or train fewer steps.',
    details: [],
  };
}

function failureOf(error: unknown): JobFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  return {
    code: 'internal_error',
    message: 'The job failed outside its training; the log of the worker says why. Try again.',
    details: [],
  };
}
