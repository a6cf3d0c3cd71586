import type { Job } from '@lorasmith/contracts';
import { FaultList } from '../../components/error-notice.js';
import { Link } from '../../components/link.js';

/** Why a job failed, and the job to start instead, where its settings can be changed so that it may not fail. */
export function JobFailureNotice({ job }: { job: Job }) {
  const { error } = job;
  if (error === null) return null;
  const remedy = remedyOf(job);
  return (
    <div class="notice notice-error">
      <p class="notice-title">{error.message}</p>
      <FaultList faults={error.details} />
      <p class="fine-print">
        <code>{error.code}</code>
      </p>
      {remedy !== null && (
        <Link to="/new-job" query={{ from: job.id, ...remedy.changes }} class="button">
          {remedy.label}
        </Link>
      )}
    </div>
  );
}

interface Remedy {
  label: string;
  /** Fields of the form. */
  changes: Record<string, string>;
}

export function remedyOf(job: Job): Remedy | null {
  if (job.kind !== 'train' || job.error === null) return null;
  const { batch_size: batchSize, gradient_accumulation_steps: accumulation, learning_rate: rate } = job.training;
  switch (job.error.code) {
    case 'non_finite_loss':
      return {
        label: `Like this, with a learning rate of ${Number((rate / 5).toPrecision(2))}`,
        changes: { 'training.learning_rate': String(Number((rate / 5).toPrecision(2))) },
      };
    case 'out_of_memory':
    case 'does_not_fit':
      if (batchSize === 1) return null;
      return {
        label: `Like this, in batches of ${Math.floor(batchSize / 2)}`,
        changes: {
          'training.batch_size': String(Math.floor(batchSize / 2)),
          'training.gradient_accumulation_steps': String(2 * accumulation),
        },
      };
    default:
      return null;
  }
}
