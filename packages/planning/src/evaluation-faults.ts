import type { Fault, JobSpec, TrainingSettings } from '@lorasmith/contracts';
import type { CodedFault } from './fault-list.js';

/** Which state of the training becomes the adapter. */
export function publishedState({ publish, early_stopping }: TrainingSettings): 'last' | 'best' {
  if (publish === 'auto') return early_stopping === null ? 'last' : 'best';
  return publish;
}

/** Warns if there is no evaluation during training, only before and after it. */
export function evaluationWarnings({ training: { eval_every_steps: every } }: JobSpec, steps: number): Fault[] {
  if (every === null || every <= steps) return [];
  const message = `Training ends after ${steps} steps, so there is no evaluation every ${every} steps, only before and after training.`;
  return [{ code: 'eval_every_steps_too_large', message, param: 'training.eval_every_steps' }];
}

/** Early stopping and the best state need evaluations, and evaluations need rows to evaluate on. */
export function evaluationFaults({ training, validation }: JobSpec): CodedFault[] {
  const { eval_every_steps: every, early_stopping: stopping } = training;
  if (every !== null && validation.split > 0) return [];
  if (stopping === null && publishedState(training) === 'last') {
    if (every === null) return [];
    const message = 'training.eval_every_steps needs held-out rows. Set validation.split too, or leave it out.';
    return [{ code: 'invalid_job', message, param: 'training.eval_every_steps' }];
  }
  const setting = stopping === null ? 'publish' : 'early_stopping';
  const lacking = [
    ...(every === null ? ['training.eval_every_steps'] : []),
    ...(validation.split > 0 ? [] : ['validation.split']),
  ];
  const message = `training.${setting} depends on the loss on held-out rows: give ${lacking.join(' and ')} too.`;
  return [{ code: 'invalid_job', message, param: `training.${setting}` }];
}
