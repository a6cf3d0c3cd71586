import {
  type Checkpoint,
  type CheckpointReference,
  checkRecordVersion,
  type Job,
  type JobFailure,
  type JobId,
  type JobProgress,
  type JobSpec,
  type JobStatus,
  type JobTask,
  type Owner,
  ProductError,
  RECORD_VERSION,
  type Report,
} from '@lorasmith/contracts';

/** The fields of a job's hash. Those that a script reads or counts are plain; the rest is JSON. A missing one is null. */
interface RecordFields {
  version: string;
  kind: Job['kind'];
  status: JobStatus;
  attempts: string;
  resumes: string;
  checkpoint?: string;
  checkpoints?: string;
  owner?: string;
  spec: string;
  created_at: string;
  started_at?: string;
  ended_at?: string;
  report?: string;
  progress?: string;
  adapter?: string;
  error?: string;
}

export interface NewRecordOptions {
  owner: Owner;
  idempotencyKey: string | undefined;
  /** Of the adapter that the job will make, at most. */
  adapterBytes: number;
  task: JobTask;
}

/** What is written when a job is created; status, sequence and attempts are the script's. */
export function newRecordFields(
  spec: JobSpec,
  createdAt: Date,
  { owner, idempotencyKey, adapterBytes, task }: NewRecordOptions,
): string[] {
  const fields = ['version', String(RECORD_VERSION), 'kind', task.kind, 'spec', JSON.stringify(spec)];
  fields.push('dataset', spec.dataset, 'adapter_bytes', String(adapterBytes), 'created_at', createdAt.toISOString());
  if (owner !== null) fields.push('owner', owner);
  if (task.kind === 'publish-checkpoint') fields.push('checkpoint', JSON.stringify(task.checkpoint));
  if (idempotencyKey !== undefined) fields.push('idempotency_key', idempotencyKey);
  return fields;
}

/** The job of a hash as Redis returns it; null when there is none. */
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
    ...(JSON.parse(fields.spec) as JobSpec),
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

function taskOfRecord(id: JobId, { kind, checkpoint }: RecordFields): JobTask {
  if (kind === 'train') return { kind };
  if (kind === 'publish-checkpoint' && checkpoint !== undefined) {
    return { kind, checkpoint: JSON.parse(checkpoint) as CheckpointReference };
  }
  throw new ProductError('internal_error', `The record of ${id} is damaged: it has no known kind.`);
}

/** The checkpoints that are kept of a job, newest first, as its hash's field says. */
export function checkpointsOfRecord(field: string | null): Checkpoint[] {
  return parsed<Checkpoint[]>(field ?? undefined) ?? [];
}

function parsed<Value>(json: string | undefined): Value | null {
  return json === undefined ? null : (JSON.parse(json) as Value);
}
