import type { Job, JobFailure, JobId, JobProgress, JobSpec, JobStatus, Report } from '@lorasmith/contracts';

/** The fields of a job's hash. Those that a script reads or counts are plain; the rest is JSON. A missing one is null. */
interface RecordFields {
  status: JobStatus;
  attempts: string;
  spec: string;
  created_at: string;
  started_at?: string;
  ended_at?: string;
  report?: string;
  progress?: string;
  adapter?: string;
  error?: string;
}

/** What is written when a job is created; status, sequence and attempts are the script's. */
export function newRecordFields(spec: JobSpec, createdAt: Date, idempotencyKey: string | undefined): string[] {
  const fields = ['spec', JSON.stringify(spec), 'dataset', spec.dataset, 'created_at', createdAt.toISOString()];
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
    status: fields.status,
    ...(JSON.parse(fields.spec) as JobSpec),
    report: parsed<Report>(fields.report),
    progress: parsed<JobProgress>(fields.progress),
    adapter: fields.adapter ?? null,
    error: parsed<JobFailure>(fields.error),
    attempts: Number(fields.attempts),
    created_at: fields.created_at,
    started_at: fields.started_at ?? null,
    ended_at: fields.ended_at ?? null,
  };
}

function parsed<Value>(json: string | undefined): Value | null {
  return json === undefined ? null : (JSON.parse(json) as Value);
}
