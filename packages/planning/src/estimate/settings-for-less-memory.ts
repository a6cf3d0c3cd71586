import { type JobSpec, MAX_ACCUMULATION_STEPS, ProductError, type Report } from '@lorasmith/contracts';
import { estimateJob, type JobToEstimate, withQuantizedBase } from './estimate-job.js';

type Estimate = NonNullable<Report['estimate']>;

/**
 * Refuses a job that cannot fit, with settings that would.
 * @throws ProductError does_not_fit
 */
export function refuseWhatDoesNotFit(job: JobToEstimate, estimate: Estimate): void {
  if (estimate.peak_memory_bytes <= estimate.available_memory_bytes) return;
  const { training } = job.spec;
  const needed = `The job needs about ${gigabytes(estimate.peak_memory_bytes)}; ${estimate.machine} has ${gigabytes(estimate.available_memory_bytes)} for it.`;
  throw new ProductError('does_not_fit', `${needed} ${remedy(job, estimate)}`, {
    param: training.batch_size > 1 ? 'training.batch_size' : 'training.max_seq_length',
  });
}

/** The first of these changes with which the job fits, the gentlest first. */
function remedy(job: JobToEstimate, { available_memory_bytes: available }: Estimate): string {
  const { training } = job.spec;
  const fits = (changed: Partial<JobSpec['training']>, changedJob = job) => {
    const spec = { ...changedJob.spec, training: { ...changedJob.spec.training, ...changed } };
    const estimate = estimateJob({ ...changedJob, spec });
    return estimate !== null && estimate.peak_memory_bytes <= available;
  };
  if (training.recompute === 'never' && fits({ recompute: 'auto' })) return 'It would fit with recompute: "auto".';
  const rowsPerStep = training.batch_size * training.gradient_accumulation_steps;
  for (let size = Math.floor(training.batch_size / 2); size >= rowsPerStep / MAX_ACCUMULATION_STEPS; size--) {
    // With any other size the steps would not have the same rows.
    if (training.batch_size % size !== 0) continue;
    const accumulation = rowsPerStep / size;
    if (!fits({ batch_size: size, gradient_accumulation_steps: accumulation })) continue;
    return `It would fit with batch_size ${size} and gradient_accumulation_steps ${accumulation}, which train the same.`;
  }
  if (training.precision === 'float32' && fits({ batch_size: 1, precision: 'bfloat16' })) {
    return 'It would fit with batch_size 1 and precision: "bfloat16".';
  }
  const quantized = withQuantizedBase(job);
  if (quantized !== null) {
    if (fits({}, quantized)) return 'It would fit with base_quantization: "nf4".';
    if (fits({ batch_size: 1, precision: 'bfloat16' }, quantized)) {
      return 'It would fit with base_quantization: "nf4", batch_size 1 and precision: "bfloat16".';
    }
  }
  return 'Use batch_size 1 and a smaller max_seq_length, a smaller base model, or a machine with more memory.';
}

/** A number of bytes for messages. */
export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** The factor by which a change must lower the estimate, which was too low by an unknown amount. */
const LOWER_BY = 0.8;

/**
 * The change to a job that ran out of memory although it was expected to fit: the gentlest change that lowers the estimate
 * of its memory by a fifth.
 */
export function settingsForLessMemory(job: JobToEstimate): string {
  const estimate = estimateJob(job);
  if (estimate === null) return 'Use a smaller batch_size, with more gradient_accumulation_steps.';
  const { training } = job.spec;
  const limit = LOWER_BY * Math.min(estimate.peak_memory_bytes, estimate.available_memory_bytes);
  const fits = (changed: Partial<JobSpec['training']>, changedJob = job) => {
    const spec = { ...changedJob.spec, training: { ...changedJob.spec.training, ...changed } };
    const changedEstimate = estimateJob({ ...changedJob, spec });
    return changedEstimate !== null && changedEstimate.peak_memory_bytes <= limit;
  };
  if (training.recompute !== 'always' && fits({ recompute: 'always' }))
    return 'Use recompute: "always", which trains the same.';
  const rowsPerStep = training.batch_size * training.gradient_accumulation_steps;
  for (const batch_size of smallerBatchSizes(training)) {
    const gradient_accumulation_steps = rowsPerStep / batch_size;
    const same = `batch_size ${batch_size} and gradient_accumulation_steps ${gradient_accumulation_steps}`;
    const smaller = { batch_size, gradient_accumulation_steps };
    if (fits(smaller)) return `Use ${same}, which train the same.`;
    if (fits({ ...smaller, recompute: 'always' })) return `Use ${same}, and recompute: "always", which train the same.`;
  }
  if (training.precision === 'float32' && fits({ batch_size: 1, precision: 'bfloat16', recompute: 'always' })) {
    return 'Use batch_size 1, recompute: "always" and precision: "bfloat16".';
  }
  const quantized = withQuantizedBase(job);
  if (quantized !== null) {
    if (fits({}, quantized)) return 'Use base_quantization: "nf4".';
    if (fits({ batch_size: 1, recompute: 'always', precision: 'bfloat16' }, quantized)) {
      return 'Use base_quantization: "nf4", batch_size 1, recompute: "always" and precision: "bfloat16".';
    }
  }
  return 'Use batch_size 1, recompute: "always" and a smaller max_seq_length, a smaller base model, or a GPU with more memory.';
}

/** The smaller batch sizes that make steps of the same rows, the largest first. */
function smallerBatchSizes(training: JobSpec['training']): number[] {
  const rowsPerStep = training.batch_size * training.gradient_accumulation_steps;
  const sizes: number[] = [];
  for (let size = Math.floor(training.batch_size / 2); size >= rowsPerStep / MAX_ACCUMULATION_STEPS; size--) {
    if (training.batch_size % size === 0) sizes.push(size);
  }
  return sizes;
}
