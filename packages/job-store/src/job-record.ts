import type {
  Checkpoint,
  CheckpointReference,
  Job,
  JobFailure,
  JobId,
  JobProgress,
  JobSpec,
  JobStatus,
  Owner,
  Report,
} from '@lorasmith/contracts';

/** The fields of a job's hash. Those that a script reads or counts are plain; the rest is JSON. A missing one is null. */
interface RecordFields {
  status: JobStatus;
  attempts: string;
  resumes?: string;
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
  adapterBytes: number | undefined;
  /** What the job publishes, if it does not train. */
  checkpoint: CheckpointReference | null;
}

/** What is written when a job is created; status, sequence and attempts are the script's. */
export function newRecordFields(
  spec: JobSpec,
  createdAt: Date,
  { owner, idempotencyKey, adapterBytes, checkpoint }: NewRecordOptions,
): string[] {
  const fields = ['spec', JSON.stringify(spec), 'dataset', spec.dataset, 'created_at', createdAt.toISOString()];
  if (owner !== null) fields.push('owner', owner);
  if (checkpoint !== null) fields.push('checkpoint', JSON.stringify(checkpoint));
  if (adapterBytes !== undefined) fields.push('adapter_bytes', String(adapterBytes));
  if (idempotencyKey !== undefined) fields.push('idempotency_key', idempotencyKey);
  return fields;
}

/** The job of a hash as Redis returns it; null when there is none. */
export function jobOfRecord(id: JobId, hash: Record<string, string>): Job | null {
  if (hash.status === undefined) return null;
  const fields = hash as unknown as RecordFields;
  return {
    id,
    object: 'job',
    owner: fields.owner ?? null,
    status: fields.status,
    ...(JSON.parse(fields.spec) as JobSpec),
    checkpoint: parsed<CheckpointReference>(fields.checkpoint),
    report: parsed<Report>(fields.report),
    progress: parsed<JobProgress>(fields.progress),
    adapter: fields.adapter ?? null,
    error: parsed<JobFailure>(fields.error),
    attempts: Number(fields.attempts),
    resumes: Number(fields.resumes ?? 0),
    created_at: fields.created_at,
    started_at: fields.started_at ?? null,
    ended_at: fields.ended_at ?? null,
  };
}

/** The checkpoints that are kept of a job, newest first, as its hash's field says. */
export function checkpointsOfRecord(field: string | null): Checkpoint[] {
  return parsed<Checkpoint[]>(field ?? undefined) ?? [];
}

function parsed<Value>(json: string | undefined): Value | null {
  return json === undefined ? null : (JSON.parse(json) as Value);
}
