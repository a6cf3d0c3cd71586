import type { JobSpec } from '@lorasmith/contracts';

/** A job with every setting at its default. */
export function aJobSpec(changes: Partial<JobSpec> = {}): JobSpec {
  return {
    base_model: 'tiny-llama',
    dataset: 'ds_0123456789abcdef01234567',
    priority: 'normal',
    validation: { split: 0, dataset: null },
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
      epochs: 3,
      max_steps: null,
      batch_size: 8,
      gradient_accumulation_steps: 1,
      learning_rate: 1e-4,
      lr_scheduler: 'linear',
      warmup_ratio: 0.03,
      weight_decay: 0,
      max_grad_norm: 1,
      max_seq_length: 1024,
      on_overflow: 'error',
      precision: 'auto',
      recompute: 'auto',
      seed: 42,
      eval_every_steps: null,
      early_stopping: null,
      publish: 'auto',
      checkpoint_every_steps: 50,
    },
    name: null,
    samples: null,
    metadata: {},
    webhook: null,
    ...changes,
  };
}
