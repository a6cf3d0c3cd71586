import type { DatasetId, Grader, JobRequest } from '../../../packages/contracts/src/index.js';
import { USUAL_BASE } from '../../base-quantization.js';

/**
 * `short`: takes a second. `long`: trains for some seconds with many checkpoints, so that a fault can interrupt it. `nf4`: a
 * short one on a base that is quantized as it is read. `pairs`, `labels`: short ones on preferences, with a reference that is computed
 * before the first step. `rewards`: a short one on answers that it samples and grades.
 */
export const JOB_KINDS = ['short', 'long', 'nf4', 'pairs', 'labels', 'rewards'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export const BASE_MODEL = 'tiny-llama';

const textOf = (rows: readonly object[]) => `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`;
const ROWS = Array.from({ length: 24 }, (_, i) => ({ prompt: `Say ${i}.`, completion: `It is ${i}.` }));
export const DATASET_TEXT = textOf(ROWS);
const DATASET_TEXTS: Partial<Record<JobKind, string>> = {
  pairs: textOf(ROWS.map(({ prompt, completion }) => ({ prompt, chosen: completion, rejected: 'I do not know.' }))),
  labels: textOf(ROWS.map((row, i) => ({ ...row, label: i % 3 > 0 }))),
  rewards: textOf(ROWS.map(({ prompt }) => ({ prompt, reference: 'a' }))),
};

const SHORT = { max_steps: 12, checkpoint_every_steps: 3 };
const SETTINGS: Record<JobKind, Pick<JobRequest, 'objective' | 'training'>> = {
  short: { training: SHORT },
  long: { training: { max_steps: 200, checkpoint_every_steps: 10 } },
  nf4: { training: { ...SHORT, base_quantization: 'nf4', precision: 'bfloat16' } },
  pairs: { objective: { kind: 'preference' }, training: SHORT },
  labels: { objective: { kind: 'preference', loss: 'kto' }, training: SHORT },
  rewards: {
    objective: {
      kind: 'group-relative',
      grader: { type: 'string_check', reference: '{{item.reference}}', operation: 'like' },
      group_size: 4,
      max_completion_tokens: 8,
    },
    training: { ...SHORT, gradient_accumulation_steps: 1 },
  },
};

export function datasetTextOf(kind: JobKind): string {
  return DATASET_TEXTS[kind] ?? DATASET_TEXT;
}

/**
 * Always the same request, so that every run, disturbed or not, must produce the same bytes.
 * @param grader that gives the same rewards as that of the kind. @defaultValue that of the kind
 */
export function requestOf(kind: JobKind, dataset: DatasetId, grader?: Grader): JobRequest {
  const { training, ...settings } = SETTINGS[kind];
  const objective = settings.objective && { ...settings.objective, ...(grader === undefined ? {} : { grader }) };
  const lora = { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] };
  return {
    base_model: BASE_MODEL,
    dataset,
    ...(objective === undefined ? { lora: { ...lora, dropout: 0.1 } } : { lora, objective }),
    training: { batch_size: 4, learning_rate: 0.005, ...USUAL_BASE, ...training },
  };
}
