import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import type { Dataset, JobSpec } from '@lorasmith/contracts';

const DATASET_ID = `ds_${'0'.repeat(24)}`;

/** A job with every setting spelled out; `changes` go over them. */
export function aJob(changes: { [Part in 'lora' | 'training' | 'validation']?: Partial<JobSpec[Part]> } = {}): JobSpec {
  return {
    base_model: 'tiny',
    dataset: DATASET_ID,
    validation: { split: 0, ...changes.validation },
    lora: {
      r: 4,
      alpha: 8,
      dropout: 0,
      target_modules: 'all-linear',
      use_rslora: false,
      init_from: null,
      ...changes.lora,
    },
    training: {
      epochs: 2,
      max_steps: null,
      batch_size: 2,
      gradient_accumulation_steps: 2,
      learning_rate: 1e-2,
      lr_scheduler: 'cosine',
      warmup_ratio: 0.1,
      weight_decay: 0.01,
      max_grad_norm: 1,
      max_seq_length: 128,
      on_overflow: 'error',
      precision: 'float32',
      seed: 42,
      eval_every_steps: null,
      checkpoint_every_steps: null,
      ...changes.training,
    },
    name: null,
    metadata: {},
  };
}

/** Writes rows as a dataset's JSONL and gives its record. */
export async function writeRows(file: string, format: Dataset['format'], rows: readonly object[]): Promise<Dataset> {
  const content = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  await writeFile(file, content);
  const [first] = rows;
  return {
    id: DATASET_ID,
    object: 'dataset',
    sha256: createHash('sha256').update(content).digest('hex'),
    name: null,
    format,
    rows: rows.length,
    bytes: Buffer.byteLength(content),
    features: first !== undefined && 'features' in first ? (first.features as number[]).length : null,
    warnings: [],
    created_at: '2026-01-01T00:00:00Z',
  };
}
