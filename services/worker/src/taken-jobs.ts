import { setTimeout as sleep } from 'node:timers/promises';
import type { JobId } from '@lorasmith/contracts';
import { type FairQueue, jobOfBullId, type LeasedJob, type QueueEntry } from '@lorasmith/queue';
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

interface RunningJob {
  taken: TakenJob;
  /** Null: it is only taken to remove it from BullMQ. */
  entry: QueueEntry | null;
  /** The time when it was taken, in milliseconds. */
  since: number;
  stopping: AbortController;
  pausing: AbortController;
  ended: Promise<void>;
}

/** The jobs that this worker has taken, each until its attempt is over and the queue knows the result. */
export class TakenJobs {
  readonly #options: TakenJobsOptions;
  /** The jobs by their ids in BullMQ. */
  readonly #jobs = new Map<string, RunningJob>();
  #isRenewing = false;

  constructor(options: TakenJobsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#jobs.size;
  }

  get ids(): JobId[] {
    return [...this.#jobs.values()].map(({ taken }) => taken.id);
  }

  /** The jobs as `chooseNext` has them, without those that are only removed from BullMQ. */
  get leased(): LeasedJob[] {
    return [...this.#jobs.values()].flatMap(({ taken, entry, since, pausing }) =>
      entry === null ? [] : [{ id: taken.id, entry, since, isPausing: pausing.signal.aborted }],
    );
  }

  /** Runs a job. Resolves as soon as the trainer pool counts it, or it has ended. */
  async start(taken: TakenJob, entry: QueueEntry | null, since: number): Promise<void> {
    const { id, resumes } = jobOfBullId(taken.bullId);
    const stopping = new AbortController();
    const pausing = new AbortController();
    await new Promise<void>((onCounted) => {
      const signals = { signal: stopping.signal, pause: pausing.signal };
      const { isLast } = taken;
      const work = taken.runAndReport(() => this.#options.run(id, { ...signals, isLast, resumes, onCounted }));
      const ended = work.finally(() => {
        this.#jobs.delete(taken.bullId);
        onCounted();
        this.#options.onEnded();
      });
      this.#jobs.set(taken.bullId, { taken, entry, since, stopping, pausing, ended });
    });
  }

  /** Asks for a pause of these jobs after a step, with a checkpoint. */
  pause(ids: readonly JobId[]): void {
    for (const { taken, pausing } of this.#jobs.values()) if (ids.includes(taken.id)) pausing.abort();
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
      const tokens = [...this.#jobs].map(([, { taken }]) => taken.token);
      const lost = await worker.extendJobLocks([...this.#jobs.keys()], tokens, lockMs);
      for (const bullId of lost) this.#jobs.get(bullId)?.stopping.abort('lost-job' satisfies StopReason);
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

export interface TakenJobOptions {
  bullJob: Job;
  /** The token of its lock. */
  token: string;
  queue: Pick<FairQueue, 'delay'>;
  log: Logger;
}

/** A job that this worker has taken from BullMQ and must complete, fail or return there. */
export class TakenJob {
  readonly #options: TakenJobOptions;

  constructor(options: TakenJobOptions) {
    this.#options = options;
  }

  get bullId(): string {
    return this.#options.bullJob.id!;
  }

  get id(): JobId {
    return jobOfBullId(this.bullId).id;
  }

  get token(): string {
    return this.#options.token;
  }

  /** True if a crash fails the job instead of releasing it for another attempt. */
  get isLast(): boolean {
    const { attemptsMade, opts } = this.#options.bullJob;
    return attemptsMade + 1 >= (opts.attempts ?? 1);
  }

  /** Returns the job to BullMQ as if it had not been taken. */
  async putBack(): Promise<void> {
    const { bullJob, token } = this.#options;
    await bullJob.moveToWait(token);
  }

  /** Runs the job and reports its outcome to BullMQ. Never rejects. */
  async runAndReport(run: () => Promise<AttemptOutcome>): Promise<void> {
    await this.#reportByTries(await this.#run(run));
  }

  /** Runs the job, unless BullMQ has given it up. @returns the report of its outcome to BullMQ */
  async #run(run: () => Promise<AttemptOutcome>): Promise<() => Promise<void>> {
    // Set if too many of its workers have died.
    const { deferredFailure } = this.#options.bullJob;
    if (deferredFailure) return () => this.#fail(new UnrecoverableError(deferredFailure));
    try {
      const outcome = await run();
      return () => this.#report(outcome);
    } catch (error) {
      return () => this.#fail(error as Error);
    }
  }

  async #reportByTries(report: () => Promise<void>): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await report();
      } catch (error) {
        this.#options.log.warn({ err: error, job: this.bullId }, 'could not report the result of the job to the queue');
        if (isRefusal(error) || tries === REPORT_TRIES) return;
        await sleep(REPORT_AGAIN_MS);
      }
    }
  }

  async #report(outcome: AttemptOutcome): Promise<void> {
    const { bullJob, token, queue } = this.#options;
    switch (outcome.kind) {
      case 'ended':
        if (outcome.status === 'failed') return await this.#fail(new UnrecoverableError(outcome.failure.message));
        await bullJob.moveToCompleted(null, token, false);
        return;
      case 'paused':
        // If the job is resumed, it has another id in BullMQ.
        await bullJob.moveToCompleted(null, token, false);
        return;
      case 'retry':
        await queue.delay(this.id, RETRY_AFTER_MS * 2 ** bullJob.attemptsMade);
        return await this.#fail(new Error(outcome.failure.message));
      case 'released':
        return await this.putBack();
      case 'lost':
        return await this.#fail(new Error('another worker has the job'));
    }
  }

  async #fail(error: Error): Promise<void> {
    const { bullJob, token } = this.#options;
    await bullJob.moveToFailed(error, token, false);
  }
}

/** True if BullMQ refuses: its job is gone, or another worker has it. Its errors then have a number as their code. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}
