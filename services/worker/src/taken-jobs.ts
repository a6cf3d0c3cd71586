import { setTimeout as sleep } from 'node:timers/promises';
import type { JobId } from '@lorasmith/contracts';
import { type FairQueue, jobOfQueueEntry, type LeasedJob, type QueueEntry } from '@lorasmith/queue';
import type { StopReason } from '@lorasmith/training';
import { type Job, UnrecoverableError, type Worker } from 'bullmq';
import type { Logger } from 'pino';
import type { AttemptOutcome } from './attempt-end.js';
import type { RunJobOptions } from './run-job.js';

export interface TakenJobsOptions {
  /** The worker of BullMQ by which the jobs were taken. */
  worker: Worker;
  /** The time that a lock on a job lasts without being renewed, in milliseconds. */
  lockMs: number;
  run: (id: JobId, options: RunJobOptions) => Promise<AttemptOutcome>;
  /** Called when a job has ended here, for whatever reason. */
  onEnded: () => void;
  log: Logger;
}

interface TakenJob {
  id: JobId;
  entry: TakenEntry;
  /** Null: it is only taken to remove it from the queue. */
  queued: QueueEntry | null;
  /** The time when it was taken, in milliseconds. */
  since: number;
  stopping: AbortController;
  pausing: AbortController;
  ended: Promise<void>;
}

/** The jobs that this worker has taken, each until its attempt is over and the queue knows the result. */
export class TakenJobs {
  readonly #options: TakenJobsOptions;
  /** The jobs by the names of their entries. */
  readonly #jobs = new Map<string, TakenJob>();
  #isRenewing = false;

  constructor(options: TakenJobsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#jobs.size;
  }

  get ids(): JobId[] {
    return [...this.#jobs.values()].map(({ id }) => id);
  }

  /** The jobs as `chooseNext` has them, without those that are only removed from the queue. */
  get leased(): LeasedJob[] {
    return [...this.#jobs.values()].flatMap(({ id, queued, since, pausing }) =>
      queued === null ? [] : [{ id, entry: queued, since, isPausing: pausing.signal.aborted }],
    );
  }

  /** Runs a job. Resolves as soon as the trainer pool counts it, or it has ended. */
  async start(entry: TakenEntry, queued: QueueEntry | null, since: number): Promise<void> {
    const { id, resumes } = jobOfQueueEntry(entry.name);
    const stopping = new AbortController();
    const pausing = new AbortController();
    await new Promise<void>((onCounted) => {
      const signals = { signal: stopping.signal, pause: pausing.signal };
      const work = entry.settle(() => this.#options.run(id, { ...signals, isLast: entry.isLast, resumes, onCounted }));
      const ended = work.finally(() => {
        this.#jobs.delete(entry.name);
        onCounted();
        this.#options.onEnded();
      });
      this.#jobs.set(entry.name, { id, entry, queued, since, stopping, pausing, ended });
    });
  }

  /** Asks for a pause of these jobs after a step, with a checkpoint. */
  pause(ids: readonly JobId[]): void {
    for (const { id, pausing } of this.#jobs.values()) if (ids.includes(id)) pausing.abort();
  }

  stopAll(reason: StopReason): void {
    for (const { stopping } of this.#jobs.values()) stopping.abort(reason);
  }

  /** Resolves when all jobs have ended here. */
  async ended(): Promise<void> {
    await Promise.all([...this.#jobs.values()].map(({ ended }) => ended));
  }

  /** Renews the locks of all jobs, and stops those whose lock another worker has. Never rejects. */
  async renewLocks(): Promise<void> {
    if (this.#jobs.size === 0 || this.#isRenewing) return;
    this.#isRenewing = true;
    const { worker, lockMs, log } = this.#options;
    try {
      const tokens = [...this.#jobs].map(([, { entry }]) => entry.token);
      const lost = await worker.extendJobLocks([...this.#jobs.keys()], tokens, lockMs);
      for (const name of lost) this.#jobs.get(name)?.stopping.abort('lost-lock' satisfies StopReason);
    } catch (error) {
      log.warn({ err: error }, 'the locks of the running jobs could not be renewed');
    } finally {
      this.#isRenewing = false;
    }
  }
}

/** The wait before the first retry; twice as long before each further one. */
const RETRY_AFTER_MS = 2_000;
/** Tries to report the result of a job. After them, its lock runs out, and the worker that gets it next finds out. */
const REPORT_TRIES = 5;
const REPORT_AGAIN_MS = 1_000;

export interface TakenEntryOptions {
  job: Job;
  /** The token of its lock. */
  token: string;
  order: Pick<FairQueue, 'delay'>;
  log: Logger;
}

/** An entry that this worker has taken from BullMQ and must complete, fail or return. */
export class TakenEntry {
  readonly #options: TakenEntryOptions;

  constructor(options: TakenEntryOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.job.id!;
  }

  get job(): JobId {
    return jobOfQueueEntry(this.name).id;
  }

  get token(): string {
    return this.#options.token;
  }

  /** True if a crash fails the job instead of releasing it for another attempt. */
  get isLast(): boolean {
    const { attemptsMade, opts } = this.#options.job;
    return attemptsMade + 1 >= (opts.attempts ?? 1);
  }

  /** Returns the entry as if it had not been taken. */
  async putBack(): Promise<void> {
    const { job, token } = this.#options;
    await job.moveToWait(token);
  }

  /** Runs the job and reports its result to BullMQ. Never rejects. */
  async settle(run: () => Promise<AttemptOutcome>): Promise<void> {
    const { job, log } = this.#options;
    // BullMQ has given it up: too many of its workers have died.
    const { deferredFailure } = job;
    let report = () => this.#fail(new UnrecoverableError(deferredFailure));
    if (!deferredFailure) {
      try {
        const result = await run();
        report = () => this.#report(result);
      } catch (error) {
        report = () => this.#fail(error as Error);
      }
    }
    for (let tries = 1; ; tries++) {
      try {
        return await report();
      } catch (error) {
        log.warn({ err: error, job: job.id }, 'could not report the result of the job to the queue');
        if (isRefusal(error) || tries === REPORT_TRIES) return;
        await sleep(REPORT_AGAIN_MS);
      }
    }
  }

  async #report(result: AttemptOutcome): Promise<void> {
    const { job, token, order } = this.#options;
    switch (result.kind) {
      case 'ended':
        if (result.status === 'failed') return await this.#fail(new UnrecoverableError(result.failure.message));
        await job.moveToCompleted(null, token, false);
        return;
      case 'paused':
        // If the job is resumed, it has another entry.
        await job.moveToCompleted(null, token, false);
        return;
      case 'retry':
        await order.delay(this.job, RETRY_AFTER_MS * 2 ** job.attemptsMade);
        return await this.#fail(new Error(result.failure.message));
      case 'released':
        return await this.putBack();
      case 'lost':
        return await this.#fail(new Error('another worker has the job'));
    }
  }

  async #fail(error: Error): Promise<void> {
    const { job, token } = this.#options;
    await job.moveToFailed(error, token, false);
  }
}

/** True if BullMQ refuses: the entry is gone, or another worker has it. Its errors then have a number as their code. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}
