import {
  type CheckpointReference,
  checkRecordVersion,
  type Job,
  type JobFailure,
  type JobId,
  type JobProgress,
  type JobSpec,
  type JobStatus,
  type JobSweep,
  type JobTask,
  type OwnDetails,
  type Owner,
  ProductError,
  RECORD_VERSION,
  type Report,
} from '@lorasmith/contracts';
import type { StoreDeps } from '../keys.js';
import { type PlannedWork, queueFacts } from '../queue/queue-entry.js';
import type { JobWithInputs } from './record-change.js';

/**
 * The fields of a job's hash. Fields that a script reads are plain text; the others are JSON. A missing field is null. Scripts decode no text of users: half a
 * character, which JSON of JavaScript may have, is an error to Redis.
 */
interface RecordFields {
  version: string;
  kind: Job['kind'];
  status: JobStatus;
  attempts: string;
  resumes: string;
  checkpoint?: string;
  checkpoints?: string;
  owner?: string;
  sweep?: string;
  /** The step of the rung that stops it, also while its worker is asked to. */
  stopped_at_rung?: string;
  /** The present name. The spec has none. */
  name?: string;
  tags?: string;
  note?: string;
  spec: string;
  created_at: string;
  started_at?: string;
  ended_at?: string;
  report?: string;
  progress?: string;
  adapter?: string;
  error?: string;
}

/** The request that created a job. Logs and traces of the worker refer to it. */
export interface JobOrigin {
  /** Id of the HTTP request; null if unknown. */
  requestId: string | null;
  /** Headers that name the span of the request (W3C Trace Context); empty without tracing. */
  trace: Readonly<Record<string, string>>;
}

/** The details of a job that is created without any. */
export const NO_DETAILS: OwnDetails = { tags: [], note: null };

export interface NewRecordOptions {
  owner: Owner;
  origin: JobOrigin | undefined;
  idempotencyKey: string | undefined;
  /** The maximum size of the job's adapter. */
  adapterBytes: number;
  planned: PlannedWork;
  task: JobTask;
  details: OwnDetails;
  /** The sweep of which the job is a variant. @defaultValue none */
  sweep?: JobSweep | undefined;
  /** The step of the first rung, at which its training is paused. @defaultValue none */
  rungStep?: number | null | undefined;
}

/** Fields and values of a new record, without status, sequence, attempts and resumes, which the script adds. */
export function newRecordFields(
  spec: JobSpec,
  createdAt: Date,
  { owner, origin, idempotencyKey, adapterBytes, planned, task, details, sweep, rungStep = null }: NewRecordOptions,
): string[] {
  const { name, ...settings } = spec;
  const fields = ['version', String(RECORD_VERSION), 'kind', task.kind, 'spec', JSON.stringify(settings)];
  if (name !== null) fields.push('name', JSON.stringify(name));
  if (details.tags.length > 0) fields.push('tags', JSON.stringify(details.tags));
  if (details.note !== null) fields.push('note', JSON.stringify(details.note));
  if (spec.webhook !== null) fields.push('webhook_url', spec.webhook.url);
  if (spec.deliver !== undefined) fields.push('deliver', JSON.stringify(spec.deliver));
  fields.push('dataset', spec.dataset);
  if (spec.validation.dataset !== null) fields.push('validation_dataset', spec.validation.dataset);
  if (spec.lora.init_from !== null) fields.push('initial_adapter', spec.lora.init_from);
  fields.push('adapter_bytes', String(adapterBytes), 'created_at', createdAt.toISOString());
  fields.push('queue_facts', queueFacts(spec, planned));
  if (owner !== null) fields.push('owner', owner);
  if (task.kind === 'publish-checkpoint') fields.push('checkpoint', JSON.stringify(task.checkpoint));
  if (sweep !== undefined) fields.push('sweep', JSON.stringify(sweep));
  if (rungStep !== null) fields.push('hold_at_step', String(rungStep));
  if (idempotencyKey !== undefined) fields.push('idempotency_key', idempotencyKey);
  if (origin?.requestId) fields.push('request_id', origin.requestId);
  if (origin && Object.keys(origin.trace).length > 0) fields.push('trace', JSON.stringify(origin.trace));
  return fields;
}

/** @throws ProductError `job_not_found` */
export async function readJob({ redis, keys }: Pick<StoreDeps, 'redis' | 'keys'>, id: JobId): Promise<Job> {
  const job = jobOfRecord(id, await redis.hgetall(keys.job(id)));
  if (job === null) throw jobMissing(id);
  return job;
}

export function jobMissing(id: JobId): ProductError {
  return new ProductError('job_not_found', `There is no job ${id}.`);
}

/** The inputs of a job, without the rest of its record; null if there is no such job. */
export async function readInputs(
  { redis, keys }: Pick<StoreDeps, 'redis' | 'keys'>,
  id: JobId,
): Promise<JobWithInputs | null> {
  const fields = ['dataset', 'validation_dataset', 'initial_adapter'] as const;
  const [dataset, validation = null, initialAdapter = null] = await redis.hmget(keys.job(id), ...fields);
  return dataset ? { id, dataset, validation: { dataset: validation }, lora: { init_from: initialAdapter } } : null;
}

export function originOfRecord(hash: Readonly<Record<string, string>>): JobOrigin {
  const { request_id: requestId = null, trace } = hash;
  return { requestId, trace: trace === undefined ? {} : (JSON.parse(trace) as Record<string, string>) };
}

/** The job in a hash as Redis returns it; null if the hash is empty. */
export function jobOfRecord(id: JobId, hash: Record<string, string>): Job | null {
  if (hash.status === undefined) return null;
  const fields = hash as unknown as RecordFields;
  checkRecordVersion({ version: Number(fields.version) }, `The record of ${id}`);
  return {
    ...taskOfRecord(id, fields),
    id,
    object: 'job',
    owner: fields.owner ?? null,
    status: fields.status,
    ...(fields.sweep === undefined ? {} : { sweep: JSON.parse(fields.sweep) as JobSweep }),
    ...stoppedAtRung(fields.status, fields.stopped_at_rung),
    ...(JSON.parse(fields.spec) as Omit<JobSpec, 'name'>),
    name: parsed<string>(fields.name),
    tags: parsed<string[]>(fields.tags) ?? [],
    note: parsed<string>(fields.note),
    report: parsed<Report>(fields.report),
    progress: parsed<JobProgress>(fields.progress),
    adapter: fields.adapter ?? null,
    error: parsed<JobFailure>(fields.error),
    attempts: Number(fields.attempts),
    resumes: Number(fields.resumes),
    created_at: fields.created_at,
    started_at: fields.started_at ?? null,
    ended_at: fields.ended_at ?? null,
  };
}

/** The rung that stopped a job, from two fields of its record. */
export function stoppedAtRung(status: string, step: string | null | undefined): { stopped_at_rung?: number } {
  return status === 'cancelled' && step ? { stopped_at_rung: Number(step) } : {};
}

function taskOfRecord(id: JobId, { kind, checkpoint }: RecordFields): JobTask {
  if (kind === 'train') return { kind };
  if (kind === 'publish-checkpoint' && checkpoint !== undefined) {
    return { kind, checkpoint: JSON.parse(checkpoint) as CheckpointReference };
  }
  throw new ProductError('internal_error', `The record of ${id} is damaged: it has no known kind.`);
}

/** The value of a field that is JSON; null without one. */
export function parsed<Value>(json: string | null | undefined): Value | null {
  return json ? (JSON.parse(json) as Value) : null;
}
