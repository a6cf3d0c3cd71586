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
  type JobStatus,
  type NewJobEvent,
  ProductError,
} from '@lorasmith/contracts';
import { type JobShare, PRIORITY_WEIGHTS } from '../queue/queue-entry.js';
import type { StoreDeps } from '../store-deps.js';
import { type JobOrigin, jobOfRecord, originOfRecord, readInputs } from './job-record.js';
import { JobUsage } from './job-usage.js';
import { cancelled, changeRecord, failed, type RecordChange } from './record-change.js';
import { startAttemptScript } from './start-attempt.js';

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
  /** The step after which its training is held; null: it trains to its end. */
  holdAtStep: number | null;
}

/** The state of a job that has come to the step at which it is held. */
export interface HeldState {
  step: number;
  /** Its evaluation after this step. */
  evaluation: Evaluation | null;
}

export interface ReleaseOptions {
  /** It has had a turn, and goes to the end of the line. @defaultValue false: it keeps its place */
  isPaused?: boolean;
  /** The next attempt starts on a worker that has no other job. @defaultValue false */
  startsAlone?: boolean;
  /** It has come to the step at which it is held, and is paused until it may go on. @defaultValue null: it has not */
  held?: HeldState | null;
}

/** One death of a worker says little about its jobs: hosts restart. */
const DEATHS_OF_SUSPECT = 2;

const HELD_STATUSES: readonly JobStatus[] = ['preparing', 'running'];

/** `resumed`: the job was resumed later and has a newer queue entry. */
export type NotNeeded = 'missing' | 'resumed' | JobStatus;

export type AttemptStart =
  | { outcome: 'started'; attempt: JobAttempt }
  /** There is nothing to do: the job was deleted, has ended, is paused, or had a pending cancel or pause that is now done. */
  | { outcome: 'not-needed'; reason: NotNeeded };

/**
 * The outcome of a write. `stale`: another attempt holds the job, or the job was deleted. `cancel-requested`: nothing was
 * written because a cancel was requested.
 */
export type AttemptWrite = 'done' | 'stale' | 'cancel-requested';

/** `pause-requested`: the attempt still holds the job, and a pause was requested. */
export type AttemptCheck = AttemptWrite | 'pause-requested';

/** `paused`: because a pause was requested, the job was paused instead of queued. */
export type AttemptRelease = AttemptWrite | 'paused';

/** The writes of a worker to the record of a job that it holds. */
export interface JobAttempts {
  /**
   * Takes the job for this worker: status `preparing`, event `job-started`.
   * @param resumes - The number of resumes in the queue entry. @defaultValue any
   */
  start(id: JobId, worker: string, resumes?: number): Promise<AttemptStart>;
  /**
   * Appends an event and applies its changes: `report-ready` sets the status `running`, a step updates the progress. Await it before the next.
   * @param checkpoints - The stored checkpoints, if they may have changed.
   */
  record(attempt: JobAttempt, event: NewJobEvent, checkpoints?: Checkpoint[]): Promise<AttemptWrite>;
  /** Records which checkpoints are stored. */
  recordCheckpoints(attempt: JobAttempt, checkpoints: Checkpoint[]): Promise<AttemptWrite>;
  /** Whether the attempt still holds the job, and neither a cancel nor a pause was requested. */
  check(attempt: JobAttempt): Promise<AttemptCheck>;
  /** Queues the job again, for another attempt, or pauses it. */
  release(attempt: JobAttempt, options?: ReleaseOptions): Promise<AttemptRelease>;
  /** Records that the job may crash its trainer at this step, or that it has passed it (null). */
  recordSuspicion(attempt: JobAttempt, step: number | null): Promise<AttemptWrite>;
  /** Call this right before the adapter is published: after `done` the job can no longer be cancelled. */
  beginPublishing(attempt: JobAttempt): Promise<AttemptWrite>;
  /**
   * @param step - The training step whose state became the adapter.
   * @param evaluation - That of this state, if it had one.
   */
  succeed(
    attempt: JobAttempt,
    adapter: AdapterId,
    step?: number,
    evaluation?: Evaluation | null,
  ): Promise<AttemptWrite>;
  fail(attempt: JobAttempt, failure: JobFailure): Promise<AttemptWrite>;
  /** Confirms a cancel. */
  cancel(attempt: JobAttempt): Promise<AttemptWrite>;
}

export function createJobAttempts(deps: StoreDeps): JobAttempts {
  const { redis, keys } = deps;
  const usages = new WeakMap<JobAttempt, JobUsage>();
  const eventCounts = new WeakMap<JobAttempt, number>();
  const usageOf = (attempt: JobAttempt): JobUsage => {
    const usage = usages.get(attempt) ?? new JobUsage(attempt.job);
    usages.set(attempt, usage);
    return usage;
  };
  const nextEventNumber = (attempt: JobAttempt): number => {
    const number = (eventCounts.get(attempt) ?? 0) + 1;
    eventCounts.set(attempt, number);
    return number;
  };
  const change = (attempt: JobAttempt, changes: RecordChange) =>
    changeRecord(deps, attempt.job, attempt.token, HELD_STATUSES, changes);
  const update = async (attempt: JobAttempt, changes: RecordChange): Promise<AttemptWrite> => {
    const { to } = changes;
    const answer = await change(attempt, changes);
    // If the connection broke after the write and the command was sent again, the change is already made.
    if (answer === 'done' || (to !== undefined && answer === to)) return 'done';
    return answer === 'cancel-requested' ? answer : 'stale';
  };

  return {
    async start(id, worker, resumes) {
      const queued = await readInputs(deps, id);
      if (queued === null) return { outcome: 'not-needed', reason: 'missing' };
      const token = randomUUID();
      const given = { token, worker: JSON.stringify(worker), expected_resumes: resumes ?? '' };
      const answer = await startAttemptScript(deps, queued, {}, { ...given, now: new Date().toISOString() });
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
        holdAtStep: record.hold_at_step ? Number(record.hold_at_step) : null,
      };
      return { outcome: 'started', attempt };
    },
    record: (attempt, event, checkpoints) => {
      const { fields = [], ...change } = changeOf(event);
      if (checkpoints !== undefined) fields.push(['checkpoints', JSON.stringify(checkpoints)]);
      const usedTokens = usageOf(attempt).tokensUntil(event);
      return update(attempt, { event, eventNumber: nextEventNumber(attempt), ...change, fields, usedTokens });
    },
    recordCheckpoints: (attempt, checkpoints) =>
      update(attempt, { fields: [['checkpoints', JSON.stringify(checkpoints)]] }),
    async check(attempt) {
      const answer = await change(attempt, { heedCancel: true, heedPause: true });
      return answer === 'done' || answer === 'cancel-requested' || answer === 'pause-requested' ? answer : 'stale';
    },
    async release(attempt, { isPaused = false, startsAlone = false, held = null } = {}) {
      const answer = await change(attempt, {
        to: 'queued',
        isPaused,
        seconds: usageOf(attempt).secondsLeft,
        heedCancel: true,
        heldAt: held === null ? null : attempt.holdAtStep,
        fields: [
          ['attempt_token', ''],
          ['released_token', attempt.token],
          ['deaths', '0'],
          ...(startsAlone ? [['starts_alone', '1'] satisfies [string, string]] : []),
          // The worker of an earlier attempt may have died before it could record it.
          ...evaluationFields(held?.step, held?.evaluation),
        ],
      });
      if (answer === 'queued') return 'done';
      return answer === 'done' || answer === 'cancel-requested' || answer === 'paused' ? answer : 'stale';
    },
    recordSuspicion: (attempt, step) =>
      update(attempt, {
        fields: [
          ['suspect_step', step === null ? '' : String(step)],
          // Passed, it has nothing to do with the workers that died.
          ...(step === null ? [['deaths', '0'] satisfies [string, string]] : []),
        ],
      }),
    beginPublishing: (attempt) => update(attempt, { heedCancel: true, fields: [['publishing', '1']] }),
    succeed: (attempt, adapter, step, evaluation) =>
      update(attempt, {
        to: 'succeeded',
        fields: [['adapter', adapter], ['ended_at', new Date().toISOString()], ...evaluationFields(step, evaluation)],
        event: { type: 'adapter-published', data: { adapter, ...(step === undefined ? {} : { step }) } },
      }),
    fail: (attempt, error) => update(attempt, failed(error)),
    cancel: (attempt) => update(attempt, cancelled()),
  };
}

/** The recorded one; that of the last step known where the workers of the last attempts died with it, one after the other. */
function suspectStepOf({ suspect_step: step, deaths }: Record<string, string>, job: Job): number | null {
  if (step) return Number(step);
  return Number(deaths ?? 0) >= DEATHS_OF_SUSPECT ? (job.progress?.step ?? 0) : null;
}

/** The field of the evaluation after so many steps, if there is one. */
function evaluationFields(step?: number, evaluation?: Evaluation | null): [string, string][] {
  if (step === undefined || !evaluation) return [];
  const { loss, accuracy, group } = evaluation;
  const kept: JobEvaluation = { step, loss, accuracy, reward: group?.reward ?? null };
  return [['evaluation', JSON.stringify(kept)]];
}

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
