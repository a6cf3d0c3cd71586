import {
  type AdapterId,
  type DeliveryTarget,
  type JobEvaluation,
  type JobFailure,
  type JobId,
  type JobProgress,
  type JobStatus,
  type KeyId,
  type NewSweepEvent,
  newIdentifier,
  type Owner,
  type Paged,
  ProductError,
  type SweepEvent,
  type SweepId,
  type SweepRequest,
  type SweepVariant,
  type WebhookType,
} from '@lorasmith/contracts';
import { EventStream, MAX_EVENTS, type ReadEventsOptions } from '../events/event-stream.js';
import type { EndedJobs } from '../jobs/ended-jobs.js';
import { idempotencyConflict } from '../jobs/job-admission.js';
import { parsed, readInputs, stoppedAtRung } from '../jobs/job-record.js';
import { jobScript } from '../jobs/record-change.js';
import type { StoreDeps } from '../keys.js';
import { bullIdOf, type JobQueue } from '../queue/job-queue.js';
import type { EventNotices } from '../redis/event-notices.js';
import { beginningOf, newest, pageOf } from '../redis/index-pages.js';
import { luaScript } from '../redis/lua-script.js';
import { repliesOf } from '../redis/redis-errors.js';
import {
  type CreateSweepOptions,
  endField,
  type NewVariant,
  type RecordedRung,
  rungField,
  type SweepOutcome,
  type SweepRecord,
  sweepIdempotency,
  sweepOfRecord,
  type WantedOfSweep,
  writeSweep,
} from './sweep-record.js';

const wantSweepScript = luaScript(import.meta.url, './sweeps.lua', 'want_sweep');
const settleSweepScript = luaScript(import.meta.url, './sweeps.lua', 'settle_sweep');
const decideSweepScript = luaScript(import.meta.url, './sweeps.lua', 'decide_sweep');
const deleteSweepScript = luaScript(import.meta.url, './sweeps.lua', 'delete_sweep');
const continueScript = jobScript(import.meta.url, './sweeps.lua', 'continue_from_rung');

/** The state of one of the jobs of a sweep. */
export interface JobOfSweep extends Pick<SweepVariant, 'stopped_at_rung'> {
  status: JobStatus;
  /** The step of the rung at which it is paused; null: it is not. */
  pausedAtStep: number | null;
  progress: JobProgress | null;
  evaluation: JobEvaluation | null;
  adapter: AdapterId | null;
  error: JobFailure | null;
  /** The number of times that it was resumed. */
  resumes: number;
}

export interface ListSweepsOptions {
  /** Only the sweeps of this key. */
  owner?: KeyId | undefined;
  after?: SweepId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
}

export interface SweepStoreOptions extends StoreDeps {
  queue: JobQueue;
  /** Receive the id of a sweep that has a new event. */
  notices: EventNotices;
  ended: EndedJobs;
}

/** Sweeps whose records are stored. */
const KEPT_SWEEPS = 10_000;
/** Limits, for docs/limits.md. */
export const sweepStoreLimits = {
  kept: { value: KEPT_SWEEPS, unit: 'sweeps', beyond: 'the records of the oldest that have ended are removed' },
};

const JOB_FIELDS = [
  'status',
  'progress',
  'evaluation',
  'adapter',
  'error',
  'is_held',
  'hold_at_step',
  'resumes',
  'stopped_at_rung',
] as const;

/** The webhook of the last event of a sweep. */
const WEBHOOK_TYPES: { [Kind in NewSweepEvent['type']]?: WebhookType } = {
  'sweep-succeeded': 'sweep.succeeded',
  'sweep-failed': 'sweep.failed',
  'sweep-cancelled': 'sweep.cancelled',
};

/** The records of sweeps, and what is decided about their jobs. */
export class SweepStore {
  readonly #options: SweepStoreOptions;
  readonly #events: EventStream<SweepEvent>;

  constructor(options: SweepStoreOptions) {
    const { redis, notices, keys } = options;
    this.#options = options;
    this.#events = new EventStream<SweepEvent>({
      redis,
      notices,
      record: keys.sweep,
      events: keys.sweepEvents,
      eventOf: (sweep, { id, ...event }) => ({ id, sweep, ...event }) as SweepEvent,
      missing: sweepMissing,
    });
  }

  /**
   * Creates a sweep with all its jobs, or nothing.
   * @throws ProductError as `createJob`
   */
  async create(
    request: SweepRequest,
    variants: readonly NewVariant[],
    options: CreateSweepOptions,
  ): Promise<{ sweep: SweepRecord; created: boolean }> {
    const { keys, ended } = this.#options;
    const id = newIdentifier('sw');
    const answer = await writeSweep(this.#options, id, request, variants, options);
    if (answer === 'conflict') throw idempotencyConflict('sweep');
    const created = answer === 'created';
    const found = created ? id : answer;
    const sweep = await this.get(found);
    if (sweep === null) throw sweepMissing(found);
    await this.#queueAll(sweep);
    if (created) {
      await ended.removeOldest(keys.ofOwner(options.owner), options.keptOfOwner);
      await ended.removeOldest(keys.all, options.keptInAll);
      await this.#removeOldest();
    }
    return { sweep, created };
  }

  /** @see JobStore.repeatedJob */
  async repeated({
    idempotencyKey,
    requestHash,
    owner,
  }: {
    idempotencyKey: string;
    requestHash: string;
    owner: Owner;
  }): Promise<SweepRecord | null> {
    const { redis, keys } = this.#options;
    const [id, hash] = await redis.hmget(sweepIdempotency(keys, idempotencyKey, owner), 'sweep', 'hash');
    if (!id) return null;
    if (hash !== requestHash) throw idempotencyConflict('sweep');
    const sweep = await this.get(id);
    if (sweep !== null) await this.#queueAll(sweep);
    return sweep;
  }

  async get(id: SweepId): Promise<SweepRecord | null> {
    return sweepOfRecord(id, await this.#options.redis.hgetall(this.#options.keys.sweep(id)));
  }

  /** The owner of the sweep; undefined if there is no sweep. */
  async ownerOf(id: SweepId): Promise<Owner | undefined> {
    const [version, owner] = await this.#options.redis.hmget(this.#options.keys.sweep(id), 'version', 'owner');
    return version ? (owner ?? null) : undefined;
  }

  /** Newest first. @throws ProductError `invalid_request` if there is no sweep `after` */
  async list({ owner, after, limit = 20 }: ListSweepsOptions = {}): Promise<Paged<SweepRecord>> {
    const { redis, keys } = this.#options;
    const index = owner === undefined ? keys.sweeps : keys.sweepsOf(owner);
    const before = await beginningOf(redis, index, { kind: 'sweep', after });
    const ids = await newest(redis, index, before, limit + 1);
    return await pageOf(redis, ids, { limit, key: keys.sweep, read: sweepOfRecord });
  }

  /** The jobs in the order of these ids; null for one that was deleted. */
  async jobs(ids: readonly JobId[]): Promise<(JobOfSweep | null)[]> {
    const look = this.#options.redis.pipeline();
    for (const id of ids) look.hmget(this.#options.keys.job(id), ...JOB_FIELDS);
    return (repliesOf(await look.exec()) as (string | null)[][]).map(jobOfFields);
  }

  /** The sweeps of which something is still to be done. */
  async active(): Promise<SweepId[]> {
    return await this.#options.redis.smembers(this.#options.keys.activeSweeps);
  }

  /** Records what the user wants. @throws ProductError `sweep_not_found`, `sweep_ended` */
  async want(id: SweepId, wanted: WantedOfSweep): Promise<void> {
    const { keys, args } = this.#reports(id);
    const answer = await wantSweepScript(this.#options.redis, keys, { ...args, wanted });
    if (answer === 'missing') throw sweepMissing(id);
    if (answer === 'cancelling') throw new ProductError('sweep_ended', 'The sweep is being cancelled.');
    if (answer === 'ended') {
      const message = 'The sweep has ended. Its failed and cancelled jobs can be resumed one by one.';
      throw new ProductError('sweep_ended', message);
    }
  }

  /** All jobs have been asked for what is wanted. */
  async settle(id: SweepId, wanted: WantedOfSweep): Promise<void> {
    await settleSweepScript(this.#options.redis, { sweep: this.#options.keys.sweep(id) }, { wanted });
  }

  /** Records the decision at a rung, with its event, unless one is recorded. @returns the recorded one; null if the sweep has ended or was deleted */
  async decide(id: SweepId, rung: number, decision: RecordedRung, event: NewSweepEvent): Promise<RecordedRung | null> {
    return await this.#once(id, rungField(rung), decision, event);
  }

  /** Writes the event of the end of a variant, unless it is written or the sweep has ended. */
  async reportEnd(
    id: SweepId,
    { index, resumes }: { index: number; resumes: number },
    event: NewSweepEvent,
  ): Promise<void> {
    await this.#once(id, endField(index, resumes), true, event);
  }

  /** Lets a job that is paused at the rung of this step continue to the next one; null: to its end. Once done, it changes nothing. */
  async continueFromRung(id: SweepId, job: JobId, fromStep: number, nextStep: number | null): Promise<void> {
    const { redis, keys, queue } = this.#options;
    const inputs = await readInputs(this.#options, job);
    if (inputs === null) return;
    const steps = { from_step: fromStep, next_step: nextStep ?? '' };
    const answer = await continueScript(this.#options, inputs, { sweep: keys.sweep(id) }, steps);
    if (answer !== 'queued') return;
    const resumes = Number(await redis.hget(keys.job(job), 'resumes'));
    await queue.attempt(job, (bull) => bull.add(bullIdOf({ id: job, resumes })));
  }

  /**
   * Records the outcome, with its event, its webhooks and the deliveries of the best adapter, unless one is recorded.
   * @param deliver - where the adapter of the event goes, as that of its best job
   * @returns the recorded one; null if the sweep was deleted
   */
  async conclude(
    id: SweepId,
    outcome: SweepOutcome,
    event: NewSweepEvent,
    deliver: readonly DeliveryTarget[] = [],
  ): Promise<SweepOutcome | null> {
    const isThere = event.type === 'sweep-succeeded' && event.data.adapter !== null && deliver.length > 0;
    return await this.#once(id, 'outcome', outcome, event, isThere ? { job: event.data.best, deliver } : null);
  }

  /** Nothing more is to be done. */
  async finish(id: SweepId): Promise<void> {
    await this.#options.redis.srem(this.#options.keys.activeSweeps, id);
  }

  /** @throws ProductError `sweep_not_found`, `sweep_still_active` */
  async remove(id: SweepId): Promise<void> {
    const answer = await this.#delete(id);
    if (answer === 'missing') throw sweepMissing(id);
    if (answer === 'active') {
      throw new ProductError('sweep_still_active', 'The sweep has not ended. Cancel it first.');
    }
  }

  /** Oldest first. @throws ProductError `sweep_not_found`, `invalid_request` */
  async readEvents(id: SweepId, options?: ReadEventsOptions): Promise<Paged<SweepEvent>> {
    return await this.#events.read(id, options);
  }

  /** Queues the jobs that wait, also for a repeated request: the process of the first one may have died before it did. */
  async #queueAll({ variants }: SweepRecord): Promise<void> {
    const { redis, keys, queue } = this.#options;
    const look = redis.pipeline();
    for (const { job } of variants) look.hmget(keys.job(job), 'status', 'resumes');
    const states = repliesOf(await look.exec()) as [JobStatus | null, string | null][];
    for (const [index, [status, resumes]] of states.entries()) {
      const entry = { id: variants[index]!.job, resumes: Number(resumes) };
      if (status === 'queued') await queue.attempt(entry.id, (bull) => bull.add(bullIdOf(entry)));
    }
  }

  /** Writes a value with its event unless there is one. @returns the one that is there */
  async #once<Value>(
    id: SweepId,
    field: string,
    value: Value,
    { type, data }: NewSweepEvent,
    delivered: { job: JobId; deliver: readonly DeliveryTarget[] } | null = null,
  ): Promise<Value | null> {
    const { keys, args } = this.#reports(id);
    const written = await decideSweepScript(this.#options.redis, keys, {
      ...args,
      field,
      value: JSON.stringify(value),
      event_type: type,
      event_data: JSON.stringify(data),
      webhook_type: WEBHOOK_TYPES[type] ?? '',
      delivered_job: delivered?.job ?? '',
      deliver: JSON.stringify(delivered?.deliver ?? []),
    });
    return parsed<Value>(written as string | null);
  }

  /** The keys and arguments of `includes/sweep-reports.lua`. */
  #reports(id: SweepId) {
    const { keys } = this.#options;
    return {
      keys: {
        sweep: keys.sweep(id),
        events: keys.sweepEvents(id),
        webhooks_due: keys.webhooksDue,
        webhook_messages: keys.webhookMessages,
        webhook_for_all: keys.webhookForAll,
        job_deliveries: keys.jobDeliveries,
      },
      args: { id, event_channel: keys.eventChannel, max_events: MAX_EVENTS },
    };
  }

  async #delete(id: SweepId): Promise<unknown> {
    const { redis, keys } = this.#options;
    const [owner = null, idempotencyKey] = await redis.hmget(keys.sweep(id), 'owner', 'idempotency_key');
    const scriptKeys = {
      sweep: keys.sweep(id),
      events: keys.sweepEvents(id),
      all_sweeps: keys.sweeps,
      owner_sweeps: keys.sweepsOf(owner),
      active_sweeps: keys.activeSweeps,
      idempotency: sweepIdempotency(keys, idempotencyKey ?? '', owner),
    };
    return await deleteSweepScript(redis, scriptKeys, { id });
  }

  /** Removes the oldest sweeps that have ended. A failure does not affect the new sweep; the next one removes the old ones. */
  async #removeOldest(): Promise<void> {
    const { redis, keys } = this.#options;
    const old = redis.zrange(keys.sweeps, '0', String(-KEPT_SWEEPS - 1));
    await old.then((ids) => Promise.allSettled(ids.map((id) => this.#delete(id)))).catch(() => {});
  }
}

/** A job from the fields of {@link JOB_FIELDS}; null if there are none. */
function jobOfFields(fields: (string | null)[]): JobOfSweep | null {
  const [status, progress, evaluation, adapter, error, isPausedAtRung, rungStep, resumes, stopped] = fields;
  if (!status) return null;
  return {
    status: status as JobStatus,
    pausedAtStep: status === 'paused' && isPausedAtRung ? Number(rungStep) : null,
    progress: parsed<JobProgress>(progress),
    evaluation: parsed<JobEvaluation>(evaluation),
    adapter: adapter ?? null,
    error: parsed<JobFailure>(error),
    resumes: Number(resumes),
    ...stoppedAtRung(status, stopped),
  };
}

function sweepMissing(id: SweepId): ProductError {
  return new ProductError('sweep_not_found', `There is no sweep ${id}.`);
}
