import type { DatasetId, JobRequest } from '../../../packages/contracts/src/index.js';

/**
 * `short`: takes a second. `long`: trains for some seconds with many checkpoints, so that a fault can interrupt it. `nf4`: a
 * short one on a base that is quantized as it is read.
 */
export const JOB_KINDS = ['short', 'long', 'nf4'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export const BASE_MODEL = 'tiny-llama';

const ROWS = Array.from({ length: 24 }, (_, i) => ({ prompt: `Say ${i}.`, completion: `It is ${i}.` }));
export const DATASET_TEXT = `${ROWS.map((row) => JSON.stringify(row)).join('\n')}\n`;

const SHORT = { max_steps: 12, checkpoint_every_steps: 3 };
const TRAINING = {
  short: SHORT,
  long: { max_steps: 200, checkpoint_every_steps: 10 },
  nf4: { ...SHORT, base_quantization: 'nf4', precision: 'bfloat16' },
} as const satisfies Record<JobKind, JobRequest['training']>;

/** Always the same request, so that every run, disturbed or not, must produce the same bytes. */
export function requestOf(kind: JobKind, dataset: DatasetId): JobRequest {
  return {
    base_model: BASE_MODEL,
    dataset,
    lora: { r: 4, alpha: 8, dropout: 0.1, target_modules: ['q_proj', 'v_proj'] },
    training: { batch_size: 4, learning_rate: 0.005, precision: 'float32', ...TRAINING[kind] },
  };
}
