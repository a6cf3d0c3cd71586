import type { JobSpec } from '@lorasmith/contracts';

export const DATASET = 'ds_0123456789abcdef01234567';
export const BASE_MODEL = 'llama-tied';

/** A job whose trainer (`fixtures/trainer.mjs`) behaves as `behaviour` says. */
export function aJobSpec(behaviour: string, changes: Partial<JobSpec> = {}): JobSpec {
  return {
    base_model: BASE_MODEL,
    dataset: DATASET,
    validation: { split: 0 },
    lora: {
      r: 8,
      alpha: 16,
      dropout: 0,
      target_modules: ['q_proj'],
      exclude_modules: null,
      layers_to_transform: null,
      rank_pattern: {},
      alpha_pattern: {},
      use_rslora: false,
      lora_plus_ratio: null,
      init_from: null,
    },
    training: {
      epochs: 1,
      max_steps: null,
      batch_size: 1,
      gradient_accumulation_steps: 1,
      learning_rate: 1e-4,
      lr_scheduler: 'linear',
      warmup_ratio: 0,
      weight_decay: 0,
      max_grad_norm: 1,
      max_seq_length: 32,
      on_overflow: 'error',
      precision: 'auto',
      recompute: 'auto',
      seed: 42,
      eval_every_steps: null,
      checkpoint_every_steps: 1,
    },
    name: 'a name',
    metadata: { do: behaviour },
    ...changes,
  };
}
