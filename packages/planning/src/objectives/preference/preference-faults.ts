import { SMOOTHED_LOSSES } from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import type { ObjectiveJob } from '../objective.js';

/** The settings of a job on pairs of answers that contradict each other. */
export function preferenceFaults({ spec: { objective, lora, training }, dataset }: ObjectiveJob): CodedFault[] {
  const fault = (param: string, message: string): CodedFault => ({ code: 'invalid_job', message, param });
  if (objective === undefined) {
    const message = `The dataset has pairs of a chosen and a rejected answer (format ${dataset.format}). Set objective to {"kind": "preference"}, over the OpenAI API method to {"type": "dpo"}.`;
    return [fault('objective', message)];
  }
  const { loss, label_smoothing: smoothing, gamma } = objective;
  const faults: CodedFault[] = [];
  if (lora.dropout > 0) {
    const message =
      'An objective of preferences is trained without dropout: the same answer would get another reward each time, and not that of the reference. Set lora.dropout to 0.';
    faults.push(fault('lora.dropout', message));
  }
  if (training.on_overflow === 'split') {
    const message =
      'A pair of answers cannot be split: both are compared as a whole. Set training.on_overflow to error, drop or truncate.';
    faults.push(fault('training.on_overflow', message));
  }
  if (smoothing > 0 && !SMOOTHED_LOSSES.includes(loss)) {
    const message = `The loss ${loss} has no label_smoothing; ${SMOOTHED_LOSSES.join(', ')} have it. Leave it out.`;
    faults.push(fault('objective.label_smoothing', message));
  }
  if (gamma > 0 && loss !== 'simpo') {
    faults.push(fault('objective.gamma', `The loss ${loss} has no gamma; only simpo has it. Leave it out.`));
  }
  return faults;
}
