import {
  type AdapterId,
  type JobEvaluation,
  type JobFailure,
  type JobId,
  type JobProgress,
  type JobSpec,
  type JobStatus,
  type KeyId,
  type NewSweepEvent,
  newIdentifier,
  type OwnDetails,
  type Owner,
  type Paged,
  ProductError,
  RECORD_VERSION,
  type SweepEvent,
  type SweepId,
  type SweepRequest,
  type SweepVariant,
  type VariantValues,
  type WebhookType,
} from '@lorasmith/contracts';
import { createEventStream, MAX_EVENTS, type ReadEventsOptions } from '../events/event-stream.js';
import {
  deletionKeys,
  IDEMPOTENCY_SECONDS,
  idempotencyConflict,
  type JobLimits,
  throwIfNotAdmitted,
} from '../jobs/job-admission.js';
import { type JobOrigin, NO_DETAILS, newRecordFields, parsed, readInputs, stoppedAtRung } from '../jobs/job-record.js';
import { beginningOf, newest, pageOf } from '../jobs/pages.js';
import { searchedName, searchedTags, searchFacts } from '../jobs/search-jobs.js';
import { type JobQueue, queueEntryOf } from '../queue/job-queue.js';
import { type PlannedWork, UNPLANNED } from '../queue/queue-entry.js';
import type { EventNotices } from '../redis/event-notices.js';
import { repliesOf } from '../redis/redis-errors.js';
import type { StoreDeps } from '../store-deps.js';
import { continueHeldJobScript } from './continue-held-job.js';
import { createSweepScript } from './create-sweep.js';
import {
  endField,
  type RecordedRung,
  rungField,
  type SweepOutcome,
  type SweepRecord,
  sweepOfRecord,
  type WantedOfSweep,
} from './sweep-record.js';
import { decideSweepScript, deleteSweepScript, settleSweepScript, wantSweepScript } from './sweep-scripts.js';

/** A job of a sweep that is to be created. */
export interface NewVariant {
  values: VariantValues;
  spec: JobSpec;
  adapterBytes: number;
  /** @defaultValue unknown */
  planned?: PlannedWork | undefined;
  /** The step after which it is held. @defaultValue null: none */
  holdAtStep?: number | null;
  /** @defaultValue no tags, no note */
  details?: OwnDetails | undefined;
}

export interface CreateSweepOptions extends JobLimits {
  /** The limits of stored ended jobs, as of createJob. */
  keptOfOwner?: number | undefined;
  keptInAll?: number | undefined;
  idempotencyKey?: string | undefined;
  requestHash: string;
  owner: Owner;
  origin?: JobOrigin | undefined;
}

/** The state of one of the jobs of a sweep. */
export interface JobOfSweep extends Pick<SweepVariant, 'stopped_at_rung'> {
  status: JobStatus;
  /** The step at which it waits to go on; null: it does not. */
  heldAtStep: number | null;
  progress: JobProgress | null;
  evaluation: JobEvaluation | null;
  adapter: AdapterId | null;
  error: JobFailure | null;
  /** How often it was resumed. */
  resumes: number;
}

export interface ListSweepsOptions {
  /** Only the sweeps of this key. */
  owner?: KeyId | undefined;
  after?: SweepId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
}

/** The records of sweeps. */
export interface SweepStore {
  /**
   * Creates a sweep with all its jobs, or nothing.
   * @throws ProductError as `createJob`
   */
  create(
    request: SweepRequest,
    variants: readonly NewVariant[],
    options: CreateSweepOptions,
  ): Promise<{ sweep: SweepRecord; created: boolean }>;
  /** @see JobStore.repeatedJob */
  repeated(options: { idempotencyKey: string; requestHash: string; owner: Owner }): Promise<SweepRecord | null>;
  get(id: SweepId): Promise<SweepRecord | null>;
  /** The owner of the sweep; undefined if there is no sweep. */
  ownerOf(id: SweepId): Promise<Owner | undefined>;
  /** Newest first. @throws ProductError `invalid_request` if there is no sweep `after` */
  list(options?: ListSweepsOptions): Promise<Paged<SweepRecord>>;
  /** The jobs in the order of these ids; null for one that was deleted. */
  jobs(ids: readonly JobId[]): Promise<(JobOfSweep | null)[]>;
  /** The sweeps of which something is still to be done. */
  active(): Promise<SweepId[]>;
  /** Records what the user wants. @throws ProductError `sweep_not_found`, `sweep_ended` */
  want(id: SweepId, wanted: WantedOfSweep): Promise<void>;
  /** All jobs have been asked for what is wanted. */
  settle(id: SweepId, wanted: WantedOfSweep): Promise<void>;
  /** Records the decision at a rung, with its event, unless one is recorded. @returns the recorded one; null if the sweep has ended or was deleted */
  decide(id: SweepId, rung: number, decision: RecordedRung, event: NewSweepEvent): Promise<RecordedRung | null>;
  /** Writes the event of the end of a variant, unless it is written or the sweep has ended. */
  reportEnd(id: SweepId, end: { index: number; resumes: number }, event: NewSweepEvent): Promise<void>;
  /** Lets a job that is held at this step go on to the next one; null: to its end. Once done, it changes nothing. */
  continueHeld(id: SweepId, job: JobId, fromStep: number, nextStep: number | null): Promise<void>;
  /** Records the outcome, with its event and webhooks, unless one is recorded. @returns the recorded one; null if the sweep was deleted */
  conclude(id: SweepId, outcome: SweepOutcome, event: NewSweepEvent): Promise<SweepOutcome | null>;
  /** Nothing more is to be done. */
  finish(id: SweepId): Promise<void>;
  /** @throws ProductError `sweep_not_found`, `sweep_still_active` */
  remove(id: SweepId): Promise<void>;
  /** Oldest first. @throws ProductError `sweep_not_found`, `invalid_request` */
  readEvents(id: SweepId, options?: ReadEventsOptions): Promise<Paged<SweepEvent>>;
}

export interface SweepStoreOptions extends StoreDeps {
  queue: JobQueue;
  /** Receive the id of a sweep that has a new event. */
  notices: EventNotices;
  /** Removes the oldest ended jobs of an index beyond a limit. */
  removeOldestJobs: (index: string, limit: number | undefined) => Promise<void>;
  /** Queues a job; what fails, `reconcile` repeats. */
  onQueue: (id: JobId, change: Promise<void>) => Promise<void>;
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

export function createSweepStore(options: SweepStoreOptions): SweepStore {
  const { redis, keys, queue, notices, onQueue, removeOldestJobs } = options;
  // A key that created a job may create a sweep, too: they are different calls.
  const idempotency = (key: string, owner: Owner) => keys.idempotency(`sweep ${key}`, owner);

  const get = async (id: SweepId) => sweepOfRecord(id, await redis.hgetall(keys.sweep(id)));
  const existing = async (id: SweepId): Promise<SweepRecord> => {
    const sweep = await get(id);
    if (sweep === null) throw sweepMissing(id);
    return sweep;
  };
  /** Also for a repeated request: the process of the first one may have died before it queued them. */
  const queueAll = async ({ variants }: SweepRecord) => {
    const look = redis.pipeline();
    for (const { job } of variants) look.hmget(keys.job(job), 'status', 'resumes');
    const states = repliesOf(await look.exec()) as [JobStatus | null, string | null][];
    for (const [index, [status, resumes]] of states.entries()) {
      const id = variants[index]!.job;
      if (status === 'queued') await onQueue(id, queue.add(queueEntryOf({ id, resumes: Number(resumes) })));
    }
  };

  const reports = (id: SweepId) => ({
    keys: {
      sweep: keys.sweep(id),
      events: keys.sweepEvents(id),
      webhooks_due: keys.webhooksDue,
      webhook_messages: keys.webhookMessages,
      webhook_for_all: keys.webhookForAll,
    },
    args: { id, event_channel: keys.eventChannel, max_events: MAX_EVENTS },
  });
  /** Writes a value with its event unless there is one. @returns the one that is there */
  const once = async <Value>(
    id: SweepId,
    field: string,
    value: Value,
    { type, data }: NewSweepEvent,
  ): Promise<Value | null> => {
    const of = reports(id);
    const written = await decideSweepScript(redis, of.keys, {
      ...of.args,
      field,
      value: JSON.stringify(value),
      event_type: type,
      event_data: JSON.stringify(data),
      webhook_type: WEBHOOK_TYPES[type] ?? '',
    });
    return parsed<Value>(written as string | null);
  };
  const events = createEventStream<SweepEvent>({
    redis,
    notices,
    record: keys.sweep,
    events: keys.sweepEvents,
    eventOf: (sweep, { id, ...event }) => ({ id, sweep, ...event }) as SweepEvent,
    missing: sweepMissing,
  });
  const remove = async (id: SweepId) => {
    const [owner = null, idempotencyKey] = await redis.hmget(keys.sweep(id), 'owner', 'idempotency_key');
    return await deleteSweepScript(
      redis,
      {
        sweep: keys.sweep(id),
        events: keys.sweepEvents(id),
        all_sweeps: keys.sweeps,
        owner_sweeps: keys.sweepsOf(owner),
        active_sweeps: keys.activeSweeps,
        idempotency: idempotency(idempotencyKey ?? '', owner),
      },
      { id },
    );
  };
  /** Removes the oldest sweeps that have ended. A failure does not affect the new sweep; the next one removes the old ones. */
  const removeOldest = async () => {
    const old = redis.zrange(keys.sweeps, '0', String(-KEPT_SWEEPS - 1));
    await old.then((ids) => Promise.allSettled(ids.map(remove))).catch(() => {});
  };

  return {
    async create(request, variants, { idempotencyKey, requestHash, owner, origin, keptOfOwner, keptInAll, ...limits }) {
      const id = newIdentifier('sw');
      const createdAt = new Date();
      const jobs = variants.map((variant) => ({ ...variant, id: newIdentifier('job') }));
      const fields = ['version', String(RECORD_VERSION), 'request', JSON.stringify(request)];
      fields.push('variants', JSON.stringify(jobs.map(({ id: job, values }) => ({ job, values }))));
      fields.push('created_at', createdAt.toISOString(), 'wanted', 'run', 'is_settled', '1');
      if (owner !== null) fields.push('owner', owner);
      if (request.webhook != null) fields.push('webhook_url', request.webhook.url);
      if (idempotencyKey !== undefined) fields.push('idempotency_key', idempotencyKey);
      const [first] = jobs as [(typeof jobs)[number]];
      const answer = await createSweepScript(
        options,
        { ...first.spec, id: first.id },
        {
          all_jobs: keys.all,
          sequence_counter: keys.sequence,
          owner_jobs: keys.ofOwner(owner),
          search_facts: keys.searchFacts,
          ...deletionKeys(keys, first.spec),
          idempotency: idempotency(idempotencyKey ?? '', owner),
          sweep: keys.sweep(id),
          sweep_events: keys.sweepEvents(id),
          all_sweeps: keys.sweeps,
          owner_sweeps: keys.sweepsOf(owner),
          active_sweeps: keys.activeSweeps,
        },
        {
          sweep_id: id,
          sweep_fields: fields.length,
          job_count: jobs.length,
          request_hash: requestHash,
          idempotency_seconds: idempotencyKey === undefined ? '' : IDEMPOTENCY_SECONDS,
          max_waiting: limits.maxWaiting ?? '',
          max_of_owner: limits.maxOfOwner ?? '',
        },
        [
          ...fields,
          ...jobs.flatMap(({ id: job, spec, adapterBytes, details = NO_DETAILS, ...more }, index) => {
            const { planned = UNPLANNED, holdAtStep } = more;
            const task = { kind: 'train' } as const;
            const sweep = { id, variant: index + 1 };
            const own = newRecordFields(spec, createdAt, {
              owner,
              origin,
              idempotencyKey: undefined,
              adapterBytes,
              planned,
              task,
              details,
              sweep,
              holdAtStep,
            });
            const found = [searchFacts(spec, createdAt, id), searchedName(spec.name), searchedTags(details.tags)];
            return [job, ...found, own.length, ...own];
          }),
        ],
        jobs.flatMap(({ id: job }) => [keys.job(job), keys.events(job)]),
      );
      if (answer === 'conflict') throw idempotencyConflict('sweep');
      throwIfNotAdmitted(first.spec, answer, limits);
      const created = answer === 'created';
      const sweep = await existing(created ? id : String(answer));
      await queueAll(sweep);
      if (created) {
        await removeOldestJobs(keys.ofOwner(owner), keptOfOwner);
        await removeOldestJobs(keys.all, keptInAll);
        await removeOldest();
      }
      return { sweep, created };
    },

    async repeated({ idempotencyKey, requestHash, owner }) {
      const [id, hash] = await redis.hmget(idempotency(idempotencyKey, owner), 'sweep', 'hash');
      if (!id) return null;
      if (hash !== requestHash) throw idempotencyConflict('sweep');
      const sweep = await get(id);
      if (sweep !== null) await queueAll(sweep);
      return sweep;
    },

    get,

    async ownerOf(id) {
      const [version, owner] = await redis.hmget(keys.sweep(id), 'version', 'owner');
      return version ? (owner ?? null) : undefined;
    },

    async list({ owner, after, limit = 20 } = {}) {
      const index = owner === undefined ? keys.sweeps : keys.sweepsOf(owner);
      const before = await beginningOf(redis, index, { kind: 'sweep', after });
      const ids = await newest(redis, index, before, limit + 1);
      return await pageOf(redis, ids, { limit, key: keys.sweep, read: sweepOfRecord });
    },

    async jobs(ids) {
      const look = redis.pipeline();
      for (const id of ids) look.hmget(keys.job(id), ...JOB_FIELDS);
      const records = repliesOf(await look.exec()) as (string | null)[][];
      return records.map(([status, progress, evaluation, adapter, error, isHeld, holdAtStep, resumes, rung]) =>
        status
          ? {
              status: status as JobStatus,
              heldAtStep: status === 'paused' && isHeld ? Number(holdAtStep) : null,
              progress: parsed<JobProgress>(progress),
              evaluation: parsed<JobEvaluation>(evaluation),
              adapter: adapter ?? null,
              error: parsed<JobFailure>(error),
              resumes: Number(resumes),
              ...stoppedAtRung(status, rung),
            }
          : null,
      );
    },

    active: () => redis.smembers(keys.activeSweeps),

    async want(id, wanted) {
      const of = reports(id);
      const answer = await wantSweepScript(redis, of.keys, { ...of.args, wanted });
      if (answer === 'missing') throw sweepMissing(id);
      if (answer === 'cancelling') throw new ProductError('sweep_ended', 'The sweep is being cancelled.');
      if (answer === 'ended') {
        const message = 'The sweep has ended. Its failed and cancelled jobs can be resumed one by one.';
        throw new ProductError('sweep_ended', message);
      }
    },

    async settle(id, wanted) {
      await settleSweepScript(redis, { sweep: keys.sweep(id) }, { wanted });
    },

    decide: (id, rung, decision, event) => once(id, rungField(rung), decision, event),

    async reportEnd(id, { index, resumes }, event) {
      await once(id, endField(index, resumes), true, event);
    },

    async continueHeld(id, job, fromStep, nextStep) {
      const inputs = await readInputs(options, job);
      if (inputs === null) return;
      const steps = { from_step: fromStep, next_step: nextStep ?? '' };
      const answer = await continueHeldJobScript(options, inputs, { sweep: keys.sweep(id) }, steps);
      if (answer !== 'queued') return;
      const resumes = Number(await redis.hget(keys.job(job), 'resumes'));
      await onQueue(job, queue.add(queueEntryOf({ id: job, resumes })));
    },

    conclude: (id, outcome, event) => once(id, 'outcome', outcome, event),

    async finish(id) {
      await redis.srem(keys.activeSweeps, id);
    },

    async remove(id) {
      const answer = await remove(id);
      if (answer === 'missing') throw sweepMissing(id);
      if (answer === 'active') {
        throw new ProductError('sweep_still_active', 'The sweep has not ended. Cancel it first.');
      }
    },

    readEvents: (id, readOptions) => events.read(id, readOptions),
  };
}

function sweepMissing(id: SweepId): ProductError {
  return new ProductError('sweep_not_found', `There is no sweep ${id}.`);
}
