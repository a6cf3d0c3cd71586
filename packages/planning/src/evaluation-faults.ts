import type { Fault, JobSpec, TrainingSettings } from '@lorasmith/contracts';
import type { CodedFault } from './fault-list.js';

/** The state of the training that becomes the adapter. */
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

/** Early stopping and the best state need evaluations, and evaluations need rows to evaluate on, of one source. */
export function evaluationFaults({ training, validation }: JobSpec): CodedFault[] {
  const { eval_every_steps: every, early_stopping: stopping } = training;
  if (validation.split > 0 && validation.dataset !== null) {
    const message = 'Set validation.split or validation.dataset, not both: rows are evaluated on from one of them.';
    return [{ code: 'invalid_job', message, param: 'validation.split' }];
  }
  const hasRows = validation.split > 0 || validation.dataset !== null;
  if (every !== null && hasRows) return [];
  if (stopping === null && publishedState(training) === 'last') {
    if (every === null) return [];
    const message =
      'training.eval_every_steps needs rows to evaluate on. Set validation.split or validation.dataset too, or leave it out.';
    return [{ code: 'invalid_job', message, param: 'training.eval_every_steps' }];
  }
  const setting = stopping === null ? 'publish' : 'early_stopping';
  const lacking = [
    ...(every === null ? ['training.eval_every_steps'] : []),
    ...(hasRows ? [] : ['validation.split (or validation.dataset)']),
  ];
  const message = `training.${setting} depends on the loss in evaluations: give ${lacking.join(' and ')} too.`;
  return [{ code: 'invalid_job', message, param: `training.${setting}` }];
}
