import {
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
import { jobScript } from '../jobs/job-script.js';
import { searchedName, searchedTags, searchFacts } from '../jobs/search-jobs.js';
import type { JobKeys, StoreDeps } from '../keys.js';
import { type PlannedWork, UNPLANNED } from '../queue/queue-entry.js';

const createSweepScript = jobScript(import.meta.url, './create-sweep.lua');

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
