import {
  askedGraderOf,
  type GradingBatch,
  type GradingOutcome,
  type JobEvent,
  type JobId,
  type NewJobEvent,
  objectiveContract,
  type TrainingOutcome,
} from '@lorasmith/contracts';
import type { JobAttempt, JobStore } from '@lorasmith/queue';
import type { Tracing } from '@lorasmith/service-kit';
import type { StopReason } from '@lorasmith/training';
import { type AttemptEnd, AttemptEnding, type AttemptOutcome, type EndingOptions } from './attempt-end.js';
import { createEventRecorder } from './event-recorder.js';
import { type PreparedOrder, prepareOrder } from './prepare-order.js';
import { publishAdapter } from './publish-adapter.js';
import { openStopSignal, type StopSignal, unlessStopped } from './stop-signal.js';
import type { PoolOutcome, TrainerOrder } from './trainer/messages.js';
import type { PoolMember } from './trainer/pool-member.js';
import { TrainingLog } from './training-log.js';
import type { AttemptMetrics } from './worker-metrics.js';

export interface AttemptOptions extends Omit<EndingOptions, 'stopping'> {
  store: Pick<JobStore, 'attempts' | 'whileEnded' | 'readEvents' | 'gradings'>;
  /** The job as the trainer pool counts it. */
  member: PoolMember;
  metrics: AttemptMetrics;
  tracing: Tracing;
  /** The time between two looks at the record of the job. */
  watchIntervalMs: number;
  /** Aborted with a {@link StopReason} when the worker must stop. */
  signal: AbortSignal;
}

const EVENTS_AT_ONCE = 1_000;

/**
 * One attempt at a job that this worker has taken: it is prepared, trained, published, ended. What it writes to the job's record has the
 * token of the attempt: where another worker has taken the job meanwhile, nothing is written and the attempt is lost.
 */
export class Attempt {
  readonly #attempt: JobAttempt;
  readonly #options: AttemptOptions;
  readonly #stopping: StopSignal;
  readonly #ending: AttemptEnding;
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
    this.#ending = new AttemptEnding(attempt, { ...options, stopping: this.#stopping });
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

  /** True if the attempt before has published the adapter and died before it could record that. */
  isPublished(): Promise<boolean> {
    return this.#ending.isPublished();
  }

  /** Brings to this host what the job needs. @returns the order; the reason when the attempt was stopped meanwhile */
  async prepare(): Promise<TrainerOrder | { kind: 'stopped'; reason: StopReason }> {
    const preparing = this.#span('prepare job', () => prepareOrder(this.#options.sources, this.#attempt));
    // Fetching a base model can take long, and a stop does not wait for it.
    this.#prepared = await unlessStopped(preparing, this.#stopping.signal, (late) => late.release());
    return this.#prepared?.order ?? { kind: 'stopped', reason: this.#stopping.signal.reason };
  }

  /** Has a trainer do the order, and records the events of the run. */
  async train(order: TrainerOrder): Promise<PoolOutcome> {
    const { member, pause, sources } = this.#options;
    const { signal, pause: pauseOfUser } = this.#stopping;
    const { suspectStep } = this.#attempt;
    const record = this.#openRecord(order);
    const over = new AbortController();
    const ended = await this.#span('train adapter', async () => {
      try {
        return await member.run(order, {
          signal,
          pause: AbortSignal.any([pause, pauseOfUser]),
          onEvent: record.add,
          grade: (batch) => this.#grade(batch, over.signal),
          suspectStep,
          onSuspicion: this.#recordSuspicion,
        });
      } finally {
        over.abort();
        this.#stopping.close();
        await record.finish();
      }
    });
    // A trainer that failed, or was killed, may have been writing a checkpoint. Those of a lost job are another's.
    const isOfAnother = ended.kind === 'stopped' && ended.reason === 'lost-job';
    if (ended.kind !== 'finished' && !isOfAnother) await sources.folders.removeIncomplete(this.#attempt);
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
      if (fence === 'stale') return await this.end({ kind: 'stopped', reason: 'lost-job' });
      if (fence === 'cancel-requested') return await this.end({ kind: 'stopped', reason: 'cancel' });
      const run = await this.end({ kind: 'published', result: outcome.result });
      if (run.kind === 'lost') await this.#ending.removeOrphanedAdapter();
      return run;
    });
  }

  /** Ends the attempt in the job's record. @returns its outcome, for the queue */
  end(end: AttemptEnd): Promise<AttemptOutcome> {
    return this.#ending.end(end);
  }

  /** Releases everything that the attempt has kept on this host. */
  async close(): Promise<void> {
    this.#stopping.close();
    this.#options.member.leave();
    this.#prepared?.release();
    const { sources, log } = this.#options;
    // The next attempt removes it, or the sweep of ended jobs: what this one has reached is in the record.
    await sources.folders.removeAttempt(this.#attempt).catch((error: unknown) => {
      log.warn({ err: error }, 'the folder of an attempt could not be removed; it is tried again later');
    });
  }

  /** Records the events of the run, and its checkpoints, until it is over. */
  #openRecord(order: TrainerOrder): { add: (event: NewJobEvent) => void; finish: () => Promise<void> } {
    const { metrics, store, sources, log } = this.#options;
    const attempt = this.#attempt;
    // A job that publishes a checkpoint has none of its own.
    const listCheckpoints = async () => (order.kind === 'train' ? await sources.folders.list(this.#id) : undefined);
    const recorder = createEventRecorder({
      write: async (event) => {
        this.#log?.add(event);
        const checkpoints = isAboutCheckpoints(event) ? await listCheckpoints() : undefined;
        if ((await store.attempts.record(attempt, event, checkpoints)) === 'stale') this.#stopping.stop('lost-job');
      },
      onError: this.#onUnreachable,
    });
    let stored = Promise.resolve();
    return {
      add: (event) => {
        metrics.happened(event);
        recorder.add(event);
        if (event.type !== 'checkpoint-saved') return;
        stored = sources.folders.storeCheckpoints(attempt).catch((error: unknown) => {
          log.warn({ err: error }, 'a checkpoint could not be stored for other hosts; the next one will be tried');
        });
      },
      finish: async () => {
        // The worker that gets the job next may be on another host.
        await stored;
        await recorder.flush();
        // A trainer may have saved one and been killed before it could report it.
        await listCheckpoints()
          .then((checkpoints) => checkpoints && store.attempts.recordCheckpoints(attempt, checkpoints))
          .catch(this.#onUnreachable);
      },
    };
  }

  /** Has the grader of the job, where it is outside of trainers, give rewards, until the run is over. Where the job was cancelled, nobody is asked any more. */
  async #grade(batch: GradingBatch, over: AbortSignal): Promise<GradingOutcome> {
    const { job } = this.#attempt;
    const rewards = job.objective && objectiveContract(job.objective.kind).rewards?.(job.objective);
    const grader = rewards === undefined ? null : askedGraderOf(rewards.grader);
    if (grader === null) return { kind: 'failed', message: 'The grader of the job is nobody who can be asked.' };
    const { gradings } = this.#options.store;
    const { signal } = this.#stopping;
    const asked = { job: job.id, owner: job.owner, grader, batch };
    try {
      const outcome = await gradings.ask(asked, AbortSignal.any([signal, over]));
      if (outcome !== null) return outcome;
      const reason = signal.reason as StopReason | undefined;
      // Where the job continues elsewhere, it asks for the same rewards.
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

function isAboutCheckpoints({ type }: NewJobEvent): boolean {
  return type === 'checkpoint-saved' || type === 'checkpoint-loaded';
}
