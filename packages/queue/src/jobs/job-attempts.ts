import { randomUUID } from 'node:crypto';
import {
  type AdapterId,
  type Checkpoint,
  type Evaluation,
  type Job,
  type JobEvaluation,
  type JobFailure,
  type JobId,
  type JobProgress,
  type JobSpec,
  type JobStatus,
  type NewJobEvent,
  objectiveContract,
  ProductError,
} from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { type JobShare, PRIORITY_WEIGHTS } from '../queue/queue-entry.js';
import { type JobOrigin, jobOfRecord, originOfRecord, readInputs } from './job-record.js';
import { cancelled, changeRecord, failed, jobScript, type RecordChange } from './record-change.js';

/** The changes of a record that an event of a trainer reports. */
function changeOf(event: NewJobEvent): Pick<RecordChange, 'to' | 'fields'> {
  switch (event.type) {
    case 'report-ready':
      return { to: 'running', fields: [['report', JSON.stringify(event.data.report)]] };
    case 'step-finished': {
      const { step, total_steps, epoch, loss, tokens_per_second, seconds_left } = event.data;
      const progress: JobProgress = { step, total_steps, epoch, loss, tokens_per_second, seconds_left };
      return { fields: [['progress', JSON.stringify(progress)]] };
    }
    case 'evaluation-finished': {
      const { step, ...evaluation } = event.data;
      return { fields: evaluationFields(step, evaluation) };
    }
    case 'tokenizing-progressed':
    case 'reference-progressed':
    case 'samples-generated':
    case 'answers-graded':
    case 'checkpoint-saved':
    case 'checkpoint-loaded':
    case 'training-stopped-early':
      return {};
    default:
      throw new ProductError('internal_error', `A trainer may not write the event ${event.type}.`);
  }
}

/** The field of the evaluation after this step, if there is one. */
function evaluationFields(step?: number, evaluation?: Evaluation | null): [string, string][] {
  if (step === undefined || !evaluation) return [];
  const { loss, accuracy, group } = evaluation;
  const kept: JobEvaluation = { step, loss, accuracy, reward: group?.reward ?? null };
  return [['evaluation', JSON.stringify(kept)]];
}

/** The tokens that an attempt has read, and the time that remains, according to its events. */
export class JobUsage {
  /** Null for a job that samples no answers. */
  readonly #sampling: { answers: number; updates: number } | null;
  #step = 0;
  #totalSteps: number | null = null;
  /** The tokens of its rows; where answers are sampled, of its prompts. */
  #tokensPerStep = 0;
  #answersPerStep = 0;
  #totalSeconds: number | null = null;

  constructor({ objective }: Pick<JobSpec, 'objective'>) {
    this.#sampling = (objective && objectiveContract(objective.kind).rewards?.(objective)) ?? null;
  }

  /** The tokens that were read since the event before: on average over the steps, and those of an evaluation. */
  tokensUntil(event: NewJobEvent): number {
    switch (event.type) {
      case 'report-ready': {
        const { tokens, steps, estimate, groups } = event.data.report;
        this.#totalSteps = steps.total;
        this.#tokensPerStep = steps.total === 0 ? 0 : tokens.total / steps.total;
        if (this.#sampling !== null && groups !== undefined) {
          const { answers, updates } = this.#sampling;
          this.#answersPerStep = (groups.prompts * answers * updates) / steps.per_epoch;
        }
        this.#totalSeconds = estimate?.total_seconds ?? null;
        return 0;
      }
      case 'checkpoint-loaded':
        this.#step = event.data.step;
        return 0;
      case 'step-finished': {
        const steps = Math.max(0, event.data.step - this.#step);
        this.#step = event.data.step;
        return Math.round(steps * this.#tokensOfStep(event.data.group?.['completions/mean_length'] ?? 0));
      }
      case 'evaluation-finished':
        return event.data.tokens;
      default:
        return 0;
    }
  }

  /** @param answerLength - The mean length of the sampled answers. Each is read after its prompt. */
  #tokensOfStep(answerLength: number): number {
    if (this.#sampling === null) return this.#tokensPerStep;
    return this.#tokensPerStep * this.#sampling.answers + this.#answersPerStep * answerLength;
  }

  /** Seconds of training that remain, if it trains alone; undefined: unknown. */
  get secondsLeft(): number | undefined {
    if (this.#totalSteps === null || this.#totalSeconds === null) return undefined;
    return this.#totalSeconds * Math.max(0, 1 - this.#step / Math.max(1, this.#totalSteps));
  }
}

const startAttemptScript = jobScript(import.meta.url, './jobs.lua', 'start_attempt');

/** The right of one worker to write to a job until another worker takes the job. */
export interface JobAttempt {
  job: Job;
  origin: JobOrigin;
  /** The number of the attempt, from 1. */
  number: number;
  /** Sent with every write. A write with the token of an older attempt changes nothing. */
  token: string;
  /** The share of the machine, among the jobs that train at the same time. */
  share: JobShare;
  /** The step at which a trainer of the job crashed that had several, or whose worker died with it; null: not suspected. */
  suspectStep: number | null;
  /** The step of its rung, at which its training is paused; null: it trains to its end. */
  rungStep: number | null;
}

/** The state of a job that is paused at its rung. */
export interface RungState {
  step: number;
  /** Its evaluation after this step. */
  evaluation: Evaluation | null;
}

export interface ReleaseOptions {
  /** It has had its time slice, and goes to the end of the line. @defaultValue false: it keeps its position */
  hasHadSlice?: boolean;
  /** The next attempt starts on a worker that has no other job. @defaultValue false */
  startsAlone?: boolean;
  /** It has come to its rung, and is paused until the decision about it. @defaultValue null: it has not */
  atRung?: RungState | null;
}

/** One death of a worker says little about its jobs: hosts restart. */
const DEATHS_OF_SUSPECT = 2;

const LEASED_STATUSES: readonly JobStatus[] = ['preparing', 'running'];

/** `resumed`: the job was resumed later and has a newer queue entry. */
type NotNeeded = 'missing' | 'resumed' | JobStatus;

export type AttemptStart =
  | { outcome: 'started'; attempt: JobAttempt }
  /** There is nothing to do: the job was deleted, has ended, is paused, or had a pending cancel or pause that is now done. */
  | { outcome: 'not-needed'; reason: NotNeeded };

/**
 * The outcome of a write. `stale`: another attempt has the job, or the job was deleted. `cancel-requested`: nothing was
 * written because a cancel was requested.
 */
export type AttemptWrite = 'done' | 'stale' | 'cancel-requested';

/** `pause-requested`: the attempt still has the job, and a pause was requested. */
type AttemptCheck = AttemptWrite | 'pause-requested';

/** `paused`: because a pause was requested, the job was paused instead of queued. */
type AttemptRelease = AttemptWrite | 'paused';

/** The writes of a worker to the record of a job that it has leased. */
export class JobAttempts {
  readonly #deps: StoreDeps;
  readonly #usages = new WeakMap<JobAttempt, JobUsage>();
  readonly #eventCounts = new WeakMap<JobAttempt, number>();

  constructor(deps: StoreDeps) {
    this.#deps = deps;
  }

  /**
   * Takes the job for this worker: status `preparing`, event `job-started`.
   * @param resumes - The number of resumes in the queue entry. @defaultValue any
   */
  async start(id: JobId, worker: string, resumes?: number): Promise<AttemptStart> {
    const { redis, keys } = this.#deps;
    const queued = await readInputs(this.#deps, id);
    if (queued === null) return { outcome: 'not-needed', reason: 'missing' };
    const token = randomUUID();
    const args = { token, worker: JSON.stringify(worker), expected_resumes: resumes ?? '' };
    const answer = await startAttemptScript(this.#deps, queued, {}, { ...args, now: new Date().toISOString() });
    if (typeof answer !== 'number') return { outcome: 'not-needed', reason: answer as NotNeeded };
    const record = await redis.hgetall(keys.job(id));
    const job = jobOfRecord(id, record);
    if (job === null) return { outcome: 'not-needed', reason: 'missing' };
    const share = {
      key: job.owner ?? '',
      keyWeight: Number((await redis.hget(keys.keyWeights, job.owner ?? '')) ?? 1),
      jobWeight: PRIORITY_WEIGHTS[job.priority],
    };
    const attempt = {
      job,
      origin: originOfRecord(record),
      number: answer,
      token,
      share,
      suspectStep: suspectStepOf(record, job),
      rungStep: record.hold_at_step ? Number(record.hold_at_step) : null,
    };
    return { outcome: 'started', attempt };
  }

  /**
   * Appends an event and applies its changes: `report-ready` sets the status `running`, a step updates the progress. Await it before the next.
   * @param checkpoints - The stored checkpoints, if they may have changed.
   */
  async record(attempt: JobAttempt, event: NewJobEvent, checkpoints?: Checkpoint[]): Promise<AttemptWrite> {
    const { fields = [], ...change } = changeOf(event);
    if (checkpoints !== undefined) fields.push(['checkpoints', JSON.stringify(checkpoints)]);
    const usedTokens = this.#usageOf(attempt).tokensUntil(event);
    const eventNumber = this.#nextEventNumber(attempt);
    return await this.#update(attempt, { event, eventNumber, ...change, fields, usedTokens });
  }

  /** Records which checkpoints are stored. */
  async recordCheckpoints(attempt: JobAttempt, checkpoints: Checkpoint[]): Promise<AttemptWrite> {
    return await this.#update(attempt, { fields: [['checkpoints', JSON.stringify(checkpoints)]] });
  }

  /** `done` if the attempt still has the job, and neither a cancel nor a pause was requested. */
  async check(attempt: JobAttempt): Promise<AttemptCheck> {
    const answer = await this.#change(attempt, { heedCancel: true, heedPause: true });
    return answer === 'done' || answer === 'cancel-requested' || answer === 'pause-requested' ? answer : 'stale';
  }

  /** Queues the job again, for another attempt, or pauses it. */
  async release(
    attempt: JobAttempt,
    { hasHadSlice = false, startsAlone = false, atRung = null }: ReleaseOptions = {},
  ): Promise<AttemptRelease> {
    const answer = await this.#change(attempt, {
      to: 'queued',
      hasHadSlice,
      seconds: this.#usageOf(attempt).secondsLeft,
      heedCancel: true,
      rungStep: atRung === null ? null : attempt.rungStep,
      fields: [
        ['attempt_token', ''],
        ['released_token', attempt.token],
        ['deaths', '0'],
        ...(startsAlone ? [['starts_alone', '1'] satisfies [string, string]] : []),
        // The worker of an earlier attempt may have died before it could record it.
        ...evaluationFields(atRung?.step, atRung?.evaluation),
      ],
    });
    if (answer === 'queued') return 'done';
    return answer === 'done' || answer === 'cancel-requested' || answer === 'paused' ? answer : 'stale';
  }

  /** Records that the job may crash its trainer at this step, or that it has passed it (null). */
  async recordSuspicion(attempt: JobAttempt, step: number | null): Promise<AttemptWrite> {
    return await this.#update(attempt, {
      fields: [
        ['suspect_step', step === null ? '' : String(step)],
        // Passed, it has nothing to do with the workers that died.
        ...(step === null ? [['deaths', '0'] satisfies [string, string]] : []),
      ],
    });
  }

  /** Call this right before the adapter is published: after `done` the job can no longer be cancelled. */
  async beginPublishing(attempt: JobAttempt): Promise<AttemptWrite> {
    return await this.#update(attempt, { heedCancel: true, fields: [['publishing', '1']] });
  }

  /**
   * @param step - The training step whose state became the adapter.
   * @param evaluation - That of this state, if it had one.
   */
  async succeed(
    attempt: JobAttempt,
    adapter: AdapterId,
    step?: number,
    evaluation?: Evaluation | null,
  ): Promise<AttemptWrite> {
    return await this.#update(attempt, {
      to: 'succeeded',
      fields: [['adapter', adapter], ['ended_at', new Date().toISOString()], ...evaluationFields(step, evaluation)],
      event: { type: 'adapter-published', data: { adapter, ...(step === undefined ? {} : { step }) } },
    });
  }

  async fail(attempt: JobAttempt, failure: JobFailure): Promise<AttemptWrite> {
    return await this.#update(attempt, failed(failure));
  }

  /** Confirms a cancel. */
  async cancel(attempt: JobAttempt): Promise<AttemptWrite> {
    return await this.#update(attempt, cancelled());
  }

  #change(attempt: JobAttempt, changes: RecordChange) {
    return changeRecord(this.#deps, attempt.job, attempt.token, LEASED_STATUSES, changes);
  }

  async #update(attempt: JobAttempt, changes: RecordChange): Promise<AttemptWrite> {
    const { to } = changes;
    const answer = await this.#change(attempt, changes);
    // If the connection broke after the write and the command was sent again, the change is already made.
    if (answer === 'done' || (to !== undefined && answer === to)) return 'done';
    return answer === 'cancel-requested' ? answer : 'stale';
  }

  #usageOf(attempt: JobAttempt): JobUsage {
    const usage = this.#usages.get(attempt) ?? new JobUsage(attempt.job);
    this.#usages.set(attempt, usage);
    return usage;
  }

  #nextEventNumber(attempt: JobAttempt): number {
    const number = (this.#eventCounts.get(attempt) ?? 0) + 1;
    this.#eventCounts.set(attempt, number);
    return number;
  }
}

/** The recorded step; the last known one where the workers of the last attempts died with the job, one after the other. */
function suspectStepOf({ suspect_step: step, deaths }: Record<string, string>, job: Job): number | null {
  if (step) return Number(step);
  return Number(deaths ?? 0) >= DEATHS_OF_SUSPECT ? (job.progress?.step ?? 0) : null;
}
