import {
  isLabelLoss,
  LABEL_LOSSES,
  PAIR_LOSSES,
  type PreferenceLoss,
  type PreferenceObjective,
  SMOOTHED_LOSSES,
} from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import type { ObjectiveJob } from '../objective.js';

/** The settings of a job on pairs of answers that contradict each other. */
export function preferenceFaults(job: ObjectiveJob): CodedFault[] {
  const { objective } = job.spec;
  if (objective?.kind !== 'preference') {
    const message = `The dataset has pairs of a chosen and a rejected answer (format ${job.dataset.format}). Set objective to {"kind": "preference"}, over the OpenAI API method to {"type": "dpo"}.`;
    return [fault('objective', message)];
  }
  const faults = answerSettingsFaults(job, objective);
  if (isLabelLoss(objective.loss)) {
    const message = `The loss ${objective.loss} is of answers with a label, and the dataset has pairs. Choose another loss, or send rows of {"prompt", "completion", "label"}.`;
    faults.push(fault('objective.loss', message));
  }
  return faults;
}

/** Settings that only some losses have, with the value that changes nothing. */
const SETTINGS_OF_LOSSES = {
  label_smoothing: { neutral: 0, losses: SMOOTHED_LOSSES },
  gamma: { neutral: 0, losses: ['simpo'] },
  sft_weight: { neutral: 0, losses: PAIR_LOSSES },
  desirable_weight: { neutral: 1, losses: LABEL_LOSSES },
  undesirable_weight: { neutral: 1, losses: LABEL_LOSSES },
} as const satisfies Partial<Record<keyof PreferenceObjective, { neutral: number; losses: readonly PreferenceLoss[] }>>;

/** The settings that no objective of answers that are judged as a whole can have. */
export function judgedAnswerFaults({ spec: { lora, training } }: ObjectiveJob): CodedFault[] {
  const faults: CodedFault[] = [];
  if (lora.dropout > 0) {
    const message =
      'An objective of preferences is trained without dropout: the same answer would get another reward each time, and not that of the reference. Set lora.dropout to 0.';
    faults.push(fault('lora.dropout', message));
  }
  if (training.on_overflow === 'split') {
    const message =
      'An answer that is judged cannot be split: it is compared as a whole. Set training.on_overflow to error, drop or truncate.';
    faults.push(fault('training.on_overflow', message));
  }
  return faults;
}

/** The settings that an objective of preferences cannot have, or not with this loss. */
export function answerSettingsFaults(job: ObjectiveJob, objective: PreferenceObjective): CodedFault[] {
  const faults = judgedAnswerFaults(job);
  const names = Object.keys(SETTINGS_OF_LOSSES) as (keyof typeof SETTINGS_OF_LOSSES)[];
  for (const name of names) {
    const { neutral, losses } = SETTINGS_OF_LOSSES[name];
    if (objective[name] === neutral || (losses as readonly PreferenceLoss[]).includes(objective.loss)) continue;
    const have = losses.length === 1 ? `only ${losses[0]} has it` : `${losses.join(', ')} have it`;
    const message = `The loss ${objective.loss} has no ${name}; ${have}. Leave it out.`;
    faults.push(fault(`objective.${name}`, message));
  }
  return faults;
}

function fault(param: string, message: string): CodedFault {
  return { code: 'invalid_job', message, param };
}
