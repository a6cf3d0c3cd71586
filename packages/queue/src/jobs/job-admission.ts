import { type DatasetId, ProductError } from '@lorasmith/contracts';
import type { JobKeys } from '../keys.js';
import { inputsOf, type JobWithInputs } from './job-script.js';

/** How long an idempotency key is stored. */
export const IDEMPOTENCY_SECONDS = 24 * 3600;

export interface JobLimits {
  /** Maximum number of unfinished jobs of the owner, including the new ones. @defaultValue no limit */
  maxOfOwner?: number | undefined;
  /** Maximum number of jobs that wait for a worker, including the new ones. @defaultValue no limit */
  maxWaiting?: number | undefined;
}

type Inputs = Omit<JobWithInputs, 'id'>;

/** The keys that say whether something that the job reads is being deleted. */
export function deletionKeys(keys: JobKeys, job: Inputs) {
  const { dataset, validation, initialAdapter } = inputsOf(job);
  return {
    dataset_deletion: keys.inputDeletion(dataset),
    validation_deletion: keys.inputDeletion(validation),
    initial_adapter_deletion: keys.inputDeletion(initialAdapter),
  };
}

/**
 * Throws the error for the answer of a script that did not queue a job; does nothing for another answer.
 * @throws ProductError `dataset_not_found`, `adapter_not_found`, `quota_exceeded`, `queue_full`
 */
export function throwIfNotAdmitted(job: Inputs, answer: unknown, { maxOfOwner, maxWaiting }: JobLimits): void {
  const { dataset, validation, initialAdapter } = inputsOf(job);
  switch (answer) {
    case 'no-dataset':
      throw datasetGone(dataset, 'dataset');
    case 'no-validation':
      throw datasetGone(validation, 'validation.dataset');
    case 'no-initial-adapter': {
      const message = `The adapter ${initialAdapter} is being deleted. No job can begin from it.`;
      throw new ProductError('adapter_not_found', message, { param: 'lora.init_from' });
    }
    case 'owner-full': {
      const message = `This key has reached its limit of ${maxOfOwner} unfinished jobs. Wait for one, or cancel one.`;
      throw new ProductError('quota_exceeded', message);
    }
    case 'queue-full': {
      const message = `The queue has reached its limit of ${maxWaiting} waiting jobs. Try again later.`;
      throw new ProductError('queue_full', message);
    }
  }
}

/** @param what - What is created: a job, a sweep. */
export function idempotencyConflict(what: string): ProductError {
  const message = `This Idempotency-Key was used with another request. Use a new key for a new ${what}.`;
  return new ProductError('idempotency_conflict', message);
}

function datasetGone(id: DatasetId, param: string): ProductError {
  const message = `The dataset ${id} is being deleted. Upload it again to train with it.`;
  return new ProductError('dataset_not_found', message, { param });
}
