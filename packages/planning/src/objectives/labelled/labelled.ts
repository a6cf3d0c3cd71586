import { type Fault, isLabelLoss, LABEL_LOSSES, type PreferenceObjective, type Report } from '@lorasmith/contracts';
import { type CodedFault, yieldToEvents } from '../../fault-list.js';
import { type ExampleLoad, type NamedObjective, ONE_SEQUENCE } from '../example-load.js';
import { fitted, LengthLimit, tokensOf } from '../next-token/length-limit.js';
import { createPromptEncoder, lengthsOf, lengthWarnings, tokensDependOn } from '../next-token/next-token.js';
import { codesOfSequence } from '../next-token/token-examples.js';
import { REMARK_WARNINGS } from '../next-token/token-row-converter.js';
import type { Objective, ObjectiveJob } from '../objective.js';
import { answerEncoder } from '../preference/answer-encoder.js';
import { answerSettingsFaults, readsReference } from '../preference/preference.js';
import {
  answerOfCodes,
  LABELLED_FORMAT,
  type LabelledExamples,
  LabelledRowConverter,
  StoredAnswers,
} from './labelled-rows.js';

/** Answers with the label true become more likely, those with false less. */
export const labelled: Objective<LabelledExamples> = {
  kind: 'labelled',
  named: 'preference',
  modelKind: 'decoder',
  formats: [LABELLED_FORMAT],
  rows: 'answers with a label: "prompt", "completion" and "label"',
  examplesDependOn: async ({ model, completionFormat }) => ({ ...(await tokensDependOn(model)), completionFormat }),
  createConverter: async (rows, texts) => new LabelledRowConverter(await answerEncoder(rows, texts)),
  createPromptEncoder,
  remarkWarnings: REMARK_WARNINGS,
  lengthLimit: (job) => new AnswerLimit(lengthsOf(job)),
  tokensOf: ({ codes }) => codes,
  longestOf: null,
  settingsFaults,
  examples: (source) => new StoredAnswers(source),
  load: answerLoad,
  view(codes, limit, tokenizer) {
    const { sequence, label } = answerOfCodes(codes);
    return { tokens: tokensOf(codesOfSequence(sequence), fitted(codes, limit), tokenizer), label };
  },
  checkRows: null,
  warnings: lengthWarnings,
  async findings(training, { objective }, signal) {
    const labels = await countLabels(training, signal);
    return { report: { labels }, warnings: objective?.kind === 'preference' ? balanceWarnings(labels, objective) : [] };
  },
};

/** Answers with a label, each a sequence. `kto` reads them with other prompts, too. */
function answerLoad(objective: NamedObjective): ExampleLoad<LabelledExamples> {
  const isMismatched = objective?.kind === 'preference' && objective.loss === 'kto';
  return {
    ...ONE_SEQUENCE,
    keepsOrder: true,
    readings: isMismatched ? 2 : 1,
    hasReference: readsReference(objective),
  };
}

/** The limit of tokens of a prompt with its answer. They are not split. */
class AnswerLimit extends LengthLimit {
  protected override readonly outcomes = 'drop or truncate';
}

function settingsFaults(job: ObjectiveJob): CodedFault[] {
  const { objective, training } = job.spec;
  const fault = (param: string, message: string): CodedFault => ({ code: 'invalid_job', message, param });
  if (objective?.kind !== 'preference') {
    const message = `The dataset has answers with a label (format ${job.dataset.format}). Set objective to {"kind": "preference", "loss": "kto"}.`;
    return [fault('objective', message)];
  }
  const faults = answerSettingsFaults(job, objective);
  if (!isLabelLoss(objective.loss)) {
    const message = `The loss ${objective.loss} is of pairs of answers, and the dataset has answers with a label. Set objective.loss to ${LABEL_LOSSES.join(' or ')}.`;
    faults.push(fault('objective.loss', message));
  }
  if (objective.loss === 'kto' && training.batch_size * training.gradient_accumulation_steps === 1) {
    const message =
      'The loss kto compares each answer with answers to other prompts of the same step, so a step needs several. Set training.batch_size to 2 or more.';
    faults.push(fault('training.batch_size', message));
  }
  return faults;
}

export type LabelCounts = NonNullable<Report['labels']>;

/** Examples between two turns of the event loop. */
const LABELS_PER_TURN = 20_000;

/** The counts of answers with each label. @throws ProductError `cancelled` */
export async function countLabels(examples: LabelledExamples, signal: AbortSignal | undefined): Promise<LabelCounts> {
  let desirable = 0;
  for (let index = 0; index < examples.count; index++) {
    if (examples.label(index)) desirable++;
    if (index % LABELS_PER_TURN === 0) await yieldToEvents(signal);
  }
  return { desirable, undesirable: examples.count - desirable };
}

/** The warnings of answers that are mostly of one label, where no weight makes up for it: as in TRL, by equation 8 of arXiv:2402.01306. */
export function balanceWarnings(
  { desirable, undesirable }: LabelCounts,
  { desirable_weight: ofTrue, undesirable_weight: ofFalse }: PreferenceObjective,
): Fault[] {
  const warning = (message: string): Fault[] => [
    { code: 'unbalanced_labels', message, param: 'objective.desirable_weight' },
  ];
  if (desirable === 0 || undesirable === 0) {
    const [all, missing] = desirable === 0 ? ['false', 'true'] : ['true', 'false'];
    return warning(`All answers have the label ${all}. Add some with the label ${missing}: only then are both learnt.`);
  }
  if (desirable === undesirable) return [];
  const rangeOfTrue = [1, 1.33].map((factor) => hundredths((undesirable * ofFalse * factor) / desirable));
  const rangeOfFalse = [1 / 1.33, 1].map((factor) => hundredths((desirable * ofTrue * factor) / undesirable));
  if (isWithin(ofTrue, rangeOfTrue) || isWithin(ofFalse, rangeOfFalse)) return [];
  return warning(
    `${desirable} answers have the label true and ${undesirable} the label false, and no weight makes up for it. Choose ` +
      `objective.desirable_weight from ${rangeOfTrue.join(' to ')}, or objective.undesirable_weight from ${rangeOfFalse.join(' to ')}, not both.`,
  );
}

function hundredths(value: number): number {
  return Math.round(100 * value) / 100;
}

function isWithin(value: number, range: readonly number[]): boolean {
  return value >= range[0]! && value <= range[1]!;
}
