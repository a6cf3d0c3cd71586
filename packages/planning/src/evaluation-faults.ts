import type { JobSpec, TrainingSettings } from '@lorasmith/contracts';
import type { CodedFault } from './fault-list.js';

/** Which state of the training becomes the adapter. */
export function publishedState({ publish = 'auto', early_stopping = null }: TrainingSettings): 'last' | 'best' {
  if (publish === 'auto') return early_stopping === null ? 'last' : 'best';
  return publish;
}

/** What is judged by evaluations needs them, and rows to evaluate on. */
export function evaluationFaults({ training, validation }: JobSpec): CodedFault[] {
  const { eval_every_steps: every, early_stopping: stopping = null } = training;
  const setting = stopping === null ? 'publish' : 'early_stopping';
  if (stopping === null && publishedState(training) === 'last') return [];
  if (every !== null && validation.split > 0) return [];
  const lacking = [
    ...(every === null ? ['training.eval_every_steps'] : []),
    ...(validation.split > 0 ? [] : ['validation.split']),
  ];
  const message = `training.${setting} goes by the loss on held-out rows: give ${lacking.join(' and ')} too.`;
  return [{ code: 'invalid_job', message, param: `training.${setting}` }];
}
