import type { JobSpec } from '@lorasmith/contracts';
import { aJobSpec as aDefaultJobSpec } from '../../../packages/queue/test/a-job-spec.js';

export const DATASET = 'ds_0123456789abcdef01234567';
export const BASE_MODEL = 'llama-tied';

/** A short job whose trainer (`fixtures/trainer.mjs`) behaves as `behaviour` says. */
export function aJobSpec(behaviour: string, changes: Partial<JobSpec> = {}): JobSpec {
  const { training, ...rest } = aDefaultJobSpec();
  return {
    ...rest,
    base_model: BASE_MODEL,
    dataset: DATASET,
    training: {
      ...training,
      epochs: 1,
      batch_size: 1,
      warmup_ratio: 0,
      max_seq_length: 32,
      checkpoint_every_steps: 1,
    },
    name: 'a name',
    metadata: { do: behaviour },
    ...changes,
  };
}
