import type { Job, JobSpec } from '@lorasmith/contracts';

/** What was asked for, without what became of it. */
export function specOf({ base_model, dataset, validation, lora, training, name, metadata }: Job): JobSpec {
  return { base_model, dataset, validation, lora, training, name, metadata };
}
