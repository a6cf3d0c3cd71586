import { setTimeout as sleep } from 'node:timers/promises';
import { type FairQueue, jobOfQueueEntry } from '@lorasmith/queue';
import { type Job, UnrecoverableError } from 'bullmq';
import type { Logger } from 'pino';
import type { AttemptOutcome } from './attempt-outcome.js';

/** The wait before the first retry; twice as long before each further one. */
const RETRY_AFTER_MS = 2_000;
/** Tries to report what became of a job. After them, its lock runs out, and the worker that gets it next finds out. */
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

  get token(): string {
    return this.#options.token;
  }

  /** Whether a crash fails the job instead of releasing it for another attempt. */
  get isLast(): boolean {
    const { attemptsMade, opts } = this.#options.job;
    return attemptsMade + 1 >= (opts.attempts ?? 1);
  }

  /** Returns the entry as if it had not been taken. */
  async putBack(): Promise<void> {
    const { job, token } = this.#options;
    await job.moveToWait(token);
  }

  /** Runs the job and reports to BullMQ what became of it. Never rejects. */
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
        await order.delay(jobOfQueueEntry(this.name).id, RETRY_AFTER_MS * 2 ** job.attemptsMade);
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

/** Whether BullMQ refuses: the entry is gone, or another worker has it. Its errors then have a number as their code. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}
