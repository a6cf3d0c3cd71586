import { countText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';

/** A job like one that failed, or that did harm, with a setting that may help. */
export interface Remedy {
  label: string;
  /** Fields of the form. */
  changes: Record<string, string>;
}

/** Failures that lie in the rows and settings of a job, which nothing changes: resumed, it fails again. */
const FAILS_AGAIN: readonly string[] = [
  'row_too_long',
  'no_trained_tokens',
  'validation_split_empty',
  'label_out_of_range',
  'chat_template_failed',
  'dataset_format_mismatch',
  'dataset_empty',
  'unmatched_target',
  'invalid_job',
];

/** True if a job may get further once it is resumed. */
export function mayGetFurther({ error }: Pick<Job, 'error'>): boolean {
  return error === null || !FAILS_AGAIN.includes(error.code);
}

/** The changes with which a failed job may succeed, the best first; empty where none is known. */
export function remediesOf(job: Job): Remedy[] {
  if (job.kind !== 'train' || job.error === null) return [];
  switch (job.error.code) {
    case 'non_finite_loss':
      return [lowerRate(job)];
    case 'out_of_memory':
    case 'does_not_fit':
      return lessMemory(job);
    case 'row_too_long':
      return job.training.on_overflow === 'error' ? otherLength(job.error.details) : [];
    default:
      return [];
  }
}

/** The same job with a lower learning rate. */
export function lowerRate({ training }: Pick<Job, 'training'>): Remedy {
  const lower = String(Number((training.learning_rate / 5).toPrecision(2)));
  return { label: `Like this, with a learning rate of ${lower}`, changes: { 'training.learning_rate': lower } };
}

function lessMemory({ training }: Job): Remedy[] {
  const {
    batch_size: batchSize,
    gradient_accumulation_steps: accumulation,
    base_quantization: quantization,
  } = training;
  if (batchSize > 1) {
    const smaller = String(Math.floor(batchSize / 2));
    const changes = {
      'training.batch_size': smaller,
      'training.gradient_accumulation_steps': String(2 * accumulation),
    };
    return [{ label: `Like this, in batches of ${smaller}`, changes }];
  }
  if (quantization !== 'none') return [];
  return [{ label: 'Like this, with the base model in 4 bits', changes: { 'training.base_quantization': 'nf4' } }];
}

function otherLength(faults: NonNullable<Job['error']>['details']): Remedy[] {
  const drop = { label: 'Like this, without the rows that are too long', changes: { 'training.on_overflow': 'drop' } };
  const longest = faults.reduce((most, { tokens = 0 }) => Math.max(most, tokens), 0);
  // A model without so many positions cannot read the row at any setting.
  const fits = longest > 0 && faults.every(({ tokens, param }) => !tokens || param === 'training.max_seq_length');
  if (!fits) return [drop];
  const changes = { 'training.max_seq_length': String(longest) };
  return [{ label: `Like this, with rows of up to ${countText(longest)} tokens`, changes }, drop];
}
