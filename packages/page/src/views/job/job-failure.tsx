import type { Job } from '@lorasmith/contracts';
import { FaultList } from '../../components/error-notice.js';
import { Link } from '../../components/link.js';
import { Allowed } from '../../service/role.js';

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
        <Allowed to="change">
          <Link to="/new-job" query={{ from: job.id, ...remedy.changes }} class="button">
            {remedy.label}
          </Link>
        </Allowed>
      )}
    </div>
  );
}

interface Remedy {
  label: string;
  /** Fields of the form. */
  changes: Record<string, string>;
}

/** The changes with which the job may succeed; null where none is known. */
function remedyOf(job: Job): Remedy | null {
  if (job.kind !== 'train' || job.error === null) return null;
  const { batch_size: batchSize, gradient_accumulation_steps: accumulation, learning_rate: rate } = job.training;
  switch (job.error.code) {
    case 'non_finite_loss': {
      const lower = String(Number((rate / 5).toPrecision(2)));
      return { label: `Like this, with a learning rate of ${lower}`, changes: { 'training.learning_rate': lower } };
    }
    case 'out_of_memory':
    case 'does_not_fit': {
      if (batchSize === 1) {
        if (job.training.base_quantization !== 'none') return null;
        return { label: 'Like this, with the base model in 4 bits', changes: { 'training.base_quantization': 'nf4' } };
      }
      const smaller = String(Math.floor(batchSize / 2));
      return {
        label: `Like this, in batches of ${smaller}`,
        changes: {
          'training.batch_size': smaller,
          'training.gradient_accumulation_steps': String(2 * accumulation),
        },
      };
    }
    default:
      return null;
  }
}
