import { isLabelLoss, LABEL_LOSSES } from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import { type ExampleLoad, type NamedObjective, ONE_SEQUENCE } from '../example-load.js';
import { LengthLimit } from '../next-token/length-limit.js';
import { createPromptEncoder, lengthsOf, lengthWarnings, tokensDependOn } from '../next-token/next-token.js';
import { fitted, tokensOf } from '../next-token/row-tokens.js';
import { codesOfSequence } from '../next-token/token-examples.js';
import { REMARK_WARNINGS } from '../next-token/token-row-converter.js';
import type { Objective, ObjectiveJob } from '../objective.js';
import { answerEncoder } from '../preference/answer-encoder.js';
import { readsReference } from '../preference/preference.js';
import { answerSettingsFaults } from '../preference/preference-faults.js';
import { balanceWarnings, countLabels } from './label-balance.js';
import { answerOfCodes, type LabelledExamples, StoredAnswers } from './labelled-examples.js';
import { LABELLED_FORMAT } from './labelled-format.js';
import { LabelledRowConverter } from './labelled-row-converter.js';

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

/** How many tokens a prompt and its answer may have. They are not split. */
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
