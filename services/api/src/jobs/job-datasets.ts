import { ProductError, type UploadedDataset } from '@lorasmith/contracts';

/** All datasets that a job reads: the one to train on, and the one that `validation.dataset` names. */
export function datasetsOf(job: {
  dataset: UploadedDataset;
  validation: { dataset: UploadedDataset } | null;
}): UploadedDataset[] {
  return job.validation === null ? [job.dataset] : [job.dataset, job.validation.dataset];
}

/** An error with the field that names the validation dataset. */
export function inValidation(error: unknown): never {
  if (!(error instanceof ProductError) || error.code !== 'dataset_not_found') throw error;
  throw new ProductError(error.code, error.message, { param: 'validation.dataset', cause: error });
}
