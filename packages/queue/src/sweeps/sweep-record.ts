import {
  checkRecordVersion,
  type JobId,
  type JobSpec,
  newIdentifier,
  type OwnDetails,
  type Owner,
  RECORD_VERSION,
  type SweepId,
  type SweepRequest,
  type VariantValues,
} from '@lorasmith/contracts';
import {
  deletionKeys,
  IDEMPOTENCY_SECONDS,
  type JobLimits,
  limitArguments,
  throwIfNotAdmitted,
} from '../jobs/job-admission.js';
import { type JobOrigin, NO_DETAILS, newRecordFields } from '../jobs/job-record.js';
import { jobScript } from '../jobs/record-change.js';
import { searchedName, searchedTags, searchFacts } from '../jobs/search-jobs.js';
import type { JobKeys, StoreDeps } from '../keys.js';
import { type PlannedWork, UNPLANNED } from '../queue/queue-entry.js';

/** The wish of the user of a sweep for all its jobs. */
export type WantedOfSweep = 'run' | 'pause' | 'cancel';

/** A variant as the record of its sweep has it. */
export interface RecordedVariant {
  job: JobId;
  values: VariantValues;
}

/** A decision at a rung of a sweep by halving. Written once. */
export interface RecordedRung {
  step: number;
  /** Indices of the variants that continue. */
  kept: number[];
  /** The metric at the rung, by the index of the variant. */
  metrics: Record<string, number | null>;
  decided_at: string;
}

/** The end of a sweep. Written once. */
export interface SweepOutcome {
  status: 'succeeded' | 'failed' | 'cancelled';
  /** Indices of the variants that have a result, the best first. */
  ranking: number[];
  /** The metric by variant, as it was then. */
  metrics: (number | null)[];
  ended_at: string;
}

/** The record of a sweep. What its jobs are doing is in their own. */
export interface SweepRecord {
  id: SweepId;
  owner: Owner;
  request: SweepRequest;
  variants: RecordedVariant[];
  created_at: string;
  wanted: WantedOfSweep;
  /** True once all jobs have been asked for what is wanted. */
  isSettled: boolean;
  /** The decisions so far. */
  rungs: RecordedRung[];
  /** The ends of variants that were reported: see {@link endField}. */
  reportedEnds: ReadonlySet<string>;
  /** Null until it has ended. */
  outcome: SweepOutcome | null;
}

/** The record in a hash as Redis returns it; null if the hash is empty. */
export function sweepOfRecord(id: SweepId, hash: Readonly<Record<string, string>>): SweepRecord | null {
  const { version, owner, request, variants, created_at, wanted, is_settled, outcome } = hash;
  if (request === undefined || variants === undefined || created_at === undefined) return null;
  checkRecordVersion({ version: Number(version) }, `The record of ${id}`);
  return {
    id,
    owner: owner ?? null,
    request: JSON.parse(request) as SweepRequest,
    variants: JSON.parse(variants) as RecordedVariant[],
    created_at,
    wanted: wanted as WantedOfSweep,
    isSettled: is_settled === '1',
    rungs: rungsOf(hash),
    reportedEnds: new Set(Object.keys(hash).filter((field) => field.startsWith(END))),
    outcome: outcome === undefined ? null : (JSON.parse(outcome) as SweepOutcome),
  };
}

/** The field of the decision at a rung, counted from 0. */
export function rungField(rung: number): string {
  return `rung:${rung}`;
}

const END = 'ended:';

/** The field that says that the end of a variant was reported. A job that is resumed may end again. */
export function endField(index: number, resumes: number): string {
  return `${END}${index}:${resumes}`;
}

function rungsOf(hash: Readonly<Record<string, string>>): RecordedRung[] {
  const rungs: RecordedRung[] = [];
  for (let text = hash[rungField(0)]; text !== undefined; text = hash[rungField(rungs.length)]) {
    rungs.push(JSON.parse(text) as RecordedRung);
  }
  return rungs;
}

const createSweepScript = jobScript(import.meta.url, './sweeps.lua', 'create_sweep');

/** A job of a sweep that is to be created. */
export interface NewVariant {
  values: VariantValues;
  spec: JobSpec;
  adapterBytes: number;
  /** @defaultValue unknown */
  planned?: PlannedWork | undefined;
  /** The step of its first rung, at which it is paused. @defaultValue null: none */
  rungStep?: number | null;
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

/** The key of the sweep that an idempotency key created. A key that created a job may create a sweep, too: they are different calls. */
export function sweepIdempotency(keys: JobKeys, key: string, owner: Owner): string {
  return keys.idempotency(`sweep ${key}`, owner);
}

/**
 * Writes the record of a sweep with those of all its jobs, or nothing.
 * @returns `created`, `conflict` (the idempotency key was used with another request), or the id of the sweep that an earlier request created
 * @throws ProductError `dataset_not_found`, `adapter_not_found`, `quota_exceeded`, `queue_full`
 */
export async function writeSweep(
  deps: StoreDeps,
  id: SweepId,
  request: SweepRequest,
  variants: readonly NewVariant[],
  { idempotencyKey, requestHash, owner, origin, ...limits }: CreateSweepOptions,
): Promise<string> {
  const { keys } = deps;
  const createdAt = new Date();
  const jobs = variants.map((variant) => ({ ...variant, id: newIdentifier('job') }));
  const fields = ['version', String(RECORD_VERSION), 'request', JSON.stringify(request)];
  fields.push('variants', JSON.stringify(jobs.map(({ id: job, values }) => ({ job, values }))));
  fields.push('created_at', createdAt.toISOString(), 'wanted', 'run', 'is_settled', '1');
  if (owner !== null) fields.push('owner', owner);
  if (request.webhook != null) fields.push('webhook_url', request.webhook.url);
  if (idempotencyKey !== undefined) fields.push('idempotency_key', idempotencyKey);
  const fieldsOfJobs = jobs.flatMap(({ id: job, spec, adapterBytes, ...more }, index) => {
    const { details = NO_DETAILS, planned = UNPLANNED, rungStep } = more;
    const own = newRecordFields(spec, createdAt, {
      owner,
      origin,
      idempotencyKey: undefined,
      adapterBytes,
      planned,
      task: { kind: 'train' },
      details,
      sweep: { id, variant: index + 1 },
      rungStep,
    });
    const found = [searchFacts(spec, createdAt, id), searchedName(spec.name), searchedTags(details.tags)];
    return [job, ...found, own.length, ...own];
  });
  const [first] = jobs as [(typeof jobs)[number]];
  const answer = await createSweepScript(
    deps,
    { ...first.spec, id: first.id },
    {
      all_jobs: keys.all,
      sequence_counter: keys.sequence,
      owner_jobs: keys.ofOwner(owner),
      search_facts: keys.searchFacts,
      ...deletionKeys(keys, first.spec),
      idempotency: sweepIdempotency(keys, idempotencyKey ?? '', owner),
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
      ...limitArguments(limits),
    },
    [...fields, ...fieldsOfJobs],
    jobs.flatMap(({ id: job }) => [keys.job(job), keys.events(job)]),
  );
  throwIfNotAdmitted(first.spec, answer, limits);
  return String(answer);
}
