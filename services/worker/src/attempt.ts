import { readManifest } from '@lorasmith/artifacts';
import {
  type AdapterId,
  type ErrorCode,
  type GradingBatch,
  type GradingOutcome,
  graderWebhookOf,
  type JobEvent,
  type JobFailure,
  type JobId,
  type NewJobEvent,
  objectiveContract,
  ProductError,
  type TrainingOutcome,
  type TrainingResult,
} from '@lorasmith/contracts';
import type { AttemptWrite, JobAttempt, JobStore, ReleaseOptions, RungState } from '@lorasmith/queue';
import type { Tracing } from '@lorasmith/service-kit';
import { asStorageError } from '@lorasmith/storage';
import type { StopReason } from '@lorasmith/training';
import type { Logger } from 'pino';
import type { AttemptOutcome } from './attempt-outcome.js';
import { createEventRecorder } from './event-recorder.js';
import type { AttemptMetrics } from './metrics/worker-metrics.js';
import { removeOrphanedAdapter } from './orphaned-adapters.js';
import { type OrderSources, type PreparedOrder, prepareOrder } from './prepare-order.js';
import { adapterIdOf, publishAdapter } from './publish-adapter.js';
import { openStopSignal, type StopSignal, unlessStopped } from './stop-signal.js';
import { TrainingLog } from './tensorboard/training-log.js';
import type { TrainerOrder } from './trainer/messages.js';
import type { PoolOutcome } from './trainer/run-outcome.js';
import { isRetryable } from './trainer/trainer-failure.js';
import type { PoolPlace } from './trainer/trainer-pool.js';

export interface AttemptOptions {
  store: Pick<JobStore, 'attempts' | 'whileEnded' | 'readEvents' | 'gradings'>;
  sources: OrderSources;
  /** The place of the job in the trainer pool. */
  place: PoolPlace;
  log: Logger;
  metrics: AttemptMetrics;
  tracing: Tracing;
  /** Time between two looks at the record of the job. */
  watchIntervalMs: number;
  /** An attempt that takes longer is stopped, and its job fails. */
  jobTimeoutMs: number;
  /** Aborted with a {@link StopReason} when the worker must stop. */
  signal: AbortSignal;
  /** Aborted when the job must make room for another: it is released after a step, with a checkpoint. */
  pause: AbortSignal;
  /** Whether a crash fails the job instead of releasing it for another attempt. */
  isLast: boolean;
  /** The fault of the GPU that trainers use; null when it computes, or when they use none. */
  findGpuFault: () => Promise<string | null>;
  /** Called when the GPU does not compute: no other job would get further. */
  onGpuLost: (fault: string) => void;
}

const EVENTS_AT_ONCE = 1_000;
const LOST: AttemptOutcome = { kind: 'lost' };

/** How a trainer fails whose GPU has failed: an error of the driver ends it, or a call of the driver never returns. */
const GPU_MAY_BE_WHY: ReadonlySet<string> = new Set<ErrorCode>(['trainer_crashed', 'trainer_hung']);

/**
 * One attempt at a job that this worker holds. Each verb writes to the job's record with the token of the attempt: where
 * another worker has taken the job meanwhile, nothing is written and the attempt is lost.
 */
export class Attempt {
  readonly #attempt: JobAttempt;
  readonly #options: AttemptOptions;
  readonly #stopping: StopSignal;
  /** The log for TensorBoard; null for a job that does not train. */
  readonly #log: TrainingLog | null;
  #prepared: PreparedOrder | null = null;

  constructor(attempt: JobAttempt, options: AttemptOptions) {
    this.#attempt = attempt;
    this.#options = options;
    this.#stopping = openStopSignal({
      attempts: options.store.attempts,
      attempt,
      signal: options.signal,
      watchIntervalMs: options.watchIntervalMs,
      jobTimeoutMs: options.jobTimeoutMs,
      onError: this.#onUnreachable,
    });
    const { job, number } = attempt;
    this.#log =
      job.kind === 'train'
        ? new TrainingLog({
            folder: options.sources.folders.logOf(job.id),
            attempt: number,
            pastEvents: () => eventsOf(options.store, job.id),
            onError: (error) => options.log.warn({ err: error }, 'the log for TensorBoard could not be written'),
          })
        : null;
  }

  get #id(): JobId {
    return this.#attempt.job.id;
  }

  /** Whether the attempt before has published the adapter and died before it could record that. */
  async isPublished(): Promise<boolean> {
    return await this.#options.sources.adapters.has(adapterIdOf(this.#id));
  }

  /** Brings to this host what the job needs; null when the attempt was stopped meanwhile. */
  async prepare(): Promise<TrainerOrder | null> {
    const preparing = this.#span('prepare job', () => prepareOrder(this.#options.sources, this.#attempt));
    // Fetching a base model can take long, and a stop does not wait for it.
    this.#prepared = await unlessStopped(preparing, this.#stopping.signal, (late) => late.release());
    return this.#prepared?.order ?? null;
  }

  /** Has a trainer do the order, and records the events of the run. */
  async train(order: TrainerOrder): Promise<PoolOutcome> {
    const { place, pause, metrics, store, sources, log } = this.#options;
    const attempt = this.#attempt;
    // A job that publishes a checkpoint has none of its own.
    const listCheckpoints = async () => (order.kind === 'train' ? await sources.folders.list(this.#id) : undefined);
    const recorder = createEventRecorder({
      write: async (event) => {
        this.#log?.add(event);
        const checkpoints = isAboutCheckpoints(event) ? await listCheckpoints() : undefined;
        if ((await store.attempts.record(attempt, event, checkpoints)) === 'stale') this.#stopping.stop('lost-lock');
      },
      onError: this.#onUnreachable,
    });
    let stored = Promise.resolve();
    const storeCheckpoints = () => {
      stored = sources.folders.storeCheckpoints(attempt).catch((error: unknown) => {
        log.warn({ err: error }, 'a checkpoint could not be stored for other hosts; the next one will be tried');
      });
    };
    const onEvent = (event: NewJobEvent) => {
      metrics.happened(event);
      recorder.add(event);
      if (event.type === 'checkpoint-saved') storeCheckpoints();
    };
    const over = new AbortController();
    const ended = await this.#span('train adapter', async () => {
      try {
        const { signal, pause: pauseOfUser } = this.#stopping;
        const { suspectStep } = attempt;
        return await place.run(order, {
          signal,
          pause: AbortSignal.any([pause, pauseOfUser]),
          onEvent,
          grade: (batch) => this.#grade(batch, over.signal),
          suspectStep,
          onSuspicion: this.#recordSuspicion,
        });
      } finally {
        over.abort();
        this.#stopping.close();
        // The worker that gets the job next may be on another host.
        await stored;
        await recorder.flush();
        // A trainer may have saved one and been killed before it could report it.
        await listCheckpoints()
          .then((checkpoints) => checkpoints && store.attempts.recordCheckpoints(attempt, checkpoints))
          .catch(this.#onUnreachable);
      }
    });
    // A trainer that failed, or was killed, may have been writing a checkpoint. Those of a lost job are another's.
    const isOfAnother = ended.kind === 'stopped' && ended.reason === 'lost-lock';
    if (ended.kind !== 'finished' && !isOfAnother) await sources.folders.removeIncomplete(attempt);
    return ended;
  }

  /** Publishes the adapter of a finished run, unless the job was cancelled or lost meanwhile. */
  async publish({ paths }: TrainerOrder, outcome: TrainingOutcome): Promise<AttemptOutcome> {
    return await this.#span('publish adapter', async () => {
      const { sources, store } = this.#options;
      const fence = await publishAdapter({
        adapters: sources.adapters,
        attempt: this.#attempt,
        outcome,
        outputFolder: paths.outputFolder,
        log: (await this.#log?.merged()) ?? null,
        beginPublishing: () => store.attempts.beginPublishing(this.#attempt),
      });
      if (fence === 'stale') return LOST;
      if (fence === 'cancel-requested') return await this.cancel();
      const run = await this.succeed(outcome.result);
      if (run.kind === 'lost') await this.#removeOrphanedAdapter();
      return run;
    });
  }

  /** @param result - Of the training whose state the adapter is. @defaultValue as the manifest of the adapter says */
  async succeed(result?: TrainingResult): Promise<AttemptOutcome> {
    const { store, sources } = this.#options;
    const adapter = adapterIdOf(this.#id);
    const of = result ?? (await this.#publishedResult(adapter));
    const written = await store.attempts.succeed(this.#attempt, adapter, of?.adapter_step, of?.evaluation_after);
    if (written !== 'done') return LOST;
    // A job that trained keeps its last checkpoints.
    if (this.#attempt.job.kind === 'publish-checkpoint') await sources.folders.removeJob(this.#id);
    return { kind: 'ended', status: 'succeeded' };
  }

  /** Ends the attempt after its run, or its preparation, was stopped. */
  async endStopped(reason: StopReason = this.#stopping.signal.reason): Promise<AttemptOutcome> {
    switch (reason) {
      case 'cancel':
        return await this.cancel();
      case 'shutdown':
        return await this.release();
      case 'time-limit':
        return await this.fail(timedOut(this.#options.jobTimeoutMs));
      case 'lost-lock':
        return LOST;
    }
  }

  /** Ends the attempt after its run was paused: the job continues from its checkpoint when it is its turn. */
  async endPaused(): Promise<AttemptOutcome> {
    // A user who withdraws a pause has given up no turn.
    const isForUser = this.#stopping.pause.aborted && !this.#options.pause.aborted;
    return await this.release({ isPaused: !isForUser });
  }

  /** Ends the attempt whose run has come to the step at which it is held. */
  async endHeld(held: RungState): Promise<AttemptOutcome> {
    return await this.release({ atRung: held });
  }

  /** Ends the attempt whose run could not begin beside the others of the trainer. */
  async endDeferred(why: string): Promise<AttemptOutcome> {
    this.#options.log.info({ why }, 'the job waits: it cannot share the trainer with the jobs that run');
    return await this.release({ startsAlone: true });
  }

  /** Ends the attempt after its trainer reported a failure, or died. */
  async endFailed(failure: JobFailure): Promise<AttemptOutcome> {
    const fault = await this.#gpuFaultBehind(failure);
    if (fault === null) return await this.fail(failure);
    this.#options.onGpuLost(fault);
    return await this.release();
  }

  /** Ends the attempt after an error of this process. */
  async endBroken(error: unknown): Promise<AttemptOutcome> {
    const known = asStorageError(error);
    if (!(known instanceof ProductError)) this.#options.log.error({ err: error }, 'job failed outside its training');
    // An adapter is complete once it is published, whatever failed after that.
    const isPublished = await this.isPublished().catch(() => false);
    return isPublished ? await this.succeed() : await this.fail(failureOf(known));
  }

  /** Returns the job to the waiting ones. Where its user has cancelled or paused it meanwhile, it is cancelled or paused. */
  async release(options?: ReleaseOptions): Promise<AttemptOutcome> {
    const released = await this.#options.store.attempts.release(this.#attempt, options);
    if (released === 'cancel-requested') return await this.cancel();
    return released === 'paused' ? { kind: 'paused' } : written(released, { kind: 'released' });
  }

  /** Confirms the cancel of the user. */
  async cancel(): Promise<AttemptOutcome> {
    const cancelled = await this.#options.store.attempts.cancel(this.#attempt);
    if (cancelled === 'done') await this.#removeOrphanedAdapter();
    return written(cancelled, { kind: 'ended', status: 'cancelled' });
  }

  /** Fails the job, or releases it for another attempt where that may succeed. */
  async fail(failure: JobFailure): Promise<AttemptOutcome> {
    if (isRetryable(failure) && !this.#options.isLast) {
      const run = await this.release();
      return run.kind === 'released' ? { kind: 'retry', failure } : run;
    }
    const failed = await this.#options.store.attempts.fail(this.#attempt, failure);
    if (failed === 'done') await this.#removeOrphanedAdapter();
    return written(failed, { kind: 'ended', status: 'failed', failure });
  }

  /** Lets go of everything that the attempt held on this host. */
  async close(): Promise<void> {
    this.#stopping.close();
    this.#options.place.leave();
    this.#prepared?.release();
    const { sources, log } = this.#options;
    // The next attempt removes it, or the sweep of ended jobs: what this one has reached is in the record.
    await sources.folders.removeAttempt(this.#attempt).catch((error: unknown) => {
      log.warn({ err: error }, 'the folder of an attempt could not be removed; it is tried again later');
    });
  }

  /** The figures of an adapter that an earlier attempt has published; undefined if its manifest cannot be read, which is no fault of the job. */
  async #publishedResult(adapter: AdapterId): Promise<TrainingResult | undefined> {
    const manifest = await readManifest(this.#options.sources.adapters, adapter).catch(() => null);
    return manifest === null || manifest.origin.kind === 'imported' ? undefined : manifest.origin.result;
  }

  /** A trainer that ended by itself may have ended because of its GPU, which is then no fault of the job. */
  async #gpuFaultBehind({ code, message }: JobFailure): Promise<string | null> {
    if (code === 'gpu_unavailable') return message;
    return GPU_MAY_BE_WHY.has(code) ? await this.#options.findGpuFault() : null;
  }

  async #removeOrphanedAdapter(): Promise<void> {
    const { store, sources, log } = this.#options;
    const removed = await removeOrphanedAdapter({ store, adapters: sources.adapters }, this.#id);
    if (removed) log.warn('an adapter that was published after its job had ended was removed');
  }

  /** Has the webhook of the job's grader give rewards, until the run is over. Where the job was cancelled, nobody is asked any more. */
  async #grade(batch: GradingBatch, over: AbortSignal): Promise<GradingOutcome> {
    const { job } = this.#attempt;
    const rewards = job.objective && objectiveContract(job.objective.kind).rewards?.(job.objective);
    const webhook = rewards === undefined ? null : graderWebhookOf(rewards.grader);
    if (webhook === null) return { kind: 'failed', message: 'The grader of the job has no webhook.' };
    const { gradings } = this.#options.store;
    const { signal } = this.#stopping;
    const asked = { job: job.id, owner: job.owner, webhook, batch };
    try {
      const outcome = await gradings.ask(asked, AbortSignal.any([signal, over]));
      if (outcome !== null) return outcome;
      const reason = signal.reason as StopReason | undefined;
      // Where the job goes on elsewhere, it asks for the same rewards.
      if (reason === 'cancel' || reason === 'time-limit') await gradings.withdraw(asked);
      return { kind: 'failed', message: 'The job was stopped while its grader was asked.' };
    } catch (error) {
      this.#options.log.error({ err: error }, 'answers could not be graded');
      return { kind: 'failed', message: 'The grader could not be asked; the log of the worker says why.' };
    }
  }

  #span<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    return this.#options.tracing.span(name, {}, work);
  }

  readonly #recordSuspicion = async (step: number | null): Promise<void> => {
    const { store, log } = this.#options;
    if (step === null) log.info('the job is no longer suspected of crashing its trainer');
    else log.warn({ step }, 'the trainer crashed: the job continues alone until it has passed this step');
    await store.attempts.recordSuspicion(this.#attempt, step).catch(this.#onUnreachable);
  };

  readonly #onUnreachable = (error: unknown): void => {
    this.#options.log.warn({ err: error }, 'the record of a running job could not be reached');
  };
}

/** The events of a job so far, oldest first. */
async function* eventsOf(store: Pick<JobStore, 'readEvents'>, id: JobId): AsyncGenerator<JobEvent> {
  let after: string | undefined;
  for (;;) {
    const { data, has_more, next } = await store.readEvents(id, { after, limit: EVENTS_AT_ONCE });
    yield* data;
    if (!has_more || next === null) return;
    after = next;
  }
}

/** The run where the write was done; else another worker has the job. */
function written(write: AttemptWrite, run: AttemptOutcome): AttemptOutcome {
  return write === 'done' ? run : LOST;
}

function isAboutCheckpoints({ type }: NewJobEvent): boolean {
  return type === 'checkpoint-saved' || type === 'checkpoint-loaded';
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
