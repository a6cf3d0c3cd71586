import { JobSpec, type SampleSettings, type UploadedDataset } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { USUAL_BASE } from '../../../test/base-quantization.js';
import { DATASET_ID, jsonLines, storeDataset } from '../../planning/test/stored-dataset.js';

type Part = 'lora' | 'training' | 'validation';

/** A job that trains every linear layer for a few steps; what neither it nor `changes` name has its default. */
export function aJob(
  changes: { [Name in Part]?: Partial<JobSpec[Name]> } & { samples?: Partial<SampleSettings> } = {},
): JobSpec {
  const training = {
    epochs: 2,
    batch_size: 2,
    gradient_accumulation_steps: 2,
    learning_rate: 1e-2,
    lr_scheduler: 'cosine',
    warmup_ratio: 0.1,
    weight_decay: 0.01,
    max_seq_length: 128,
    ...USUAL_BASE,
    checkpoint_every_steps: null,
  };
  const spec = Value.Default(JobSpec, {
    base_model: 'tiny',
    dataset: DATASET_ID,
    validation: { ...changes.validation },
    lora: { r: 4, alpha: 8, target_modules: 'all-linear', ...changes.lora },
    training: { ...training, ...changes.training },
    ...(changes.samples ? { samples: changes.samples } : {}),
  });
  return Value.Parse(JobSpec, spec);
}

/** Writes rows as a dataset's JSONL and gives its record. */
export async function writeRows(
  file: string,
  format: UploadedDataset['format'],
  rows: readonly object[],
): Promise<UploadedDataset> {
  const [first] = rows;
  const features = first !== undefined && 'features' in first ? (first.features as number[]).length : null;
  return await storeDataset(file, format, jsonLines(rows), { features });
}
