import {
  DatasetRow,
  type Fault,
  isLabelLoss,
  LABEL_LOSSES,
  type LabelledRow,
  MAX_RENDERED_TOKENS,
  type PreferenceObjective,
  type RenderedRow,
  type Report,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { type Examples, FileExamples } from '../../example-file/examples.js';
import { type CodedFault, yieldToEvents } from '../../fault-list.js';
import { REMARK_WARNINGS, renderedParts } from '../next-token/encode-row.js';
import { fitted, LengthLimit, tokensOf } from '../next-token/length-limit.js';
import {
  createPromptEncoder,
  lengthsOf,
  lengthWarnings,
  tokensDependOn,
  unicodeFaults,
} from '../next-token/next-token.js';
import { codesOfSequence, type EncodedRow, sequenceOfCodes, trainedOf } from '../next-token/token-examples.js';
import {
  type ConvertedRow,
  type ExampleLoad,
  MAX_FAULTS_PER_ROW,
  type NamedObjective,
  type Objective,
  type ObjectiveJob,
  ONE_SEQUENCE,
  type RowConverter,
  type RowFault,
  type RowFormat,
} from '../objective.js';
import {
  type AnswerEncoder,
  type AnsweredPrompt,
  answerEncoder,
  answeredRow,
  answerFaults,
  emptyAnswer,
  partFaults,
  promptFaults,
} from '../preference/answer-encoder.js';
import { answerSettingsFaults, readsReference } from '../preference/preference.js';

/** Rows of an answer, and whether it is wanted. */
const LABELLED_FORMAT: RowFormat = {
  name: 'labelled_completion',
  tellingKeys: ['label'],
  companionKeys: ['prompt', 'completion'],
  keys: '"prompt", "completion", "label" and optionally "tools" and "parallel_tool_calls"',
  schema: Compile(DatasetRow.labelled_completion),
  faults: (row) => faultsOf(row as LabelledRow),
  named(row) {
    const { prompt, completion } = row as Record<string, unknown>;
    return partFaults([
      ['prompt', prompt],
      ['completion', completion],
    ]);
  },
};

/** A row with a text as its prompt and one as its answer. */
interface TextAnswer {
  prompt: string;
  completion: string;
}

/** A row as one of its forms. */
function answerOfRow(row: LabelledRow): TextAnswer | AnsweredPrompt | { fault: RowFault } {
  const { prompt, completion, tools = null, parallel_tool_calls: parallelToolCalls } = row;
  if (typeof prompt !== 'string' && typeof completion !== 'string') {
    return { prompt, answer: completion, tools, parallelToolCalls };
  }
  if (typeof prompt !== 'string' || typeof completion !== 'string') {
    return refused('completion', 'prompt and completion are either both text or both lists of messages.');
  }
  if (tools !== null) return refused('tools', 'Tools belong to rows of messages, and the answer is text.');
  return { prompt, completion };
}

/** The field of a row for a path within the conversation of its prompt and its answer. */
function paramOfAnswer({ prompt }: Pick<AnsweredPrompt, 'prompt'>, param: string): string {
  const found = /^messages\.(\d+)(.*)$/.exec(param);
  if (found === null) return param;
  const index = Number(found[1]);
  if (index < prompt.length) return `prompt.${index}${found[2]}`;
  return `completion.${index - prompt.length}${found[2]}`;
}

function faultsOf(row: LabelledRow): RowFault[] {
  const answer = answerOfRow(row);
  if ('fault' in answer) return [answer.fault];
  if ('completion' in answer) {
    const faults = unicodeFaults(Object.entries(answer));
    return faults.length > 0 || answer.completion !== '' ? faults : [emptyAnswer('completion')];
  }
  const faults = answerFaults(answer, 'completion', (param) => paramOfAnswer(answer, param));
  return [...promptFaults(answer.prompt, 'prompt'), ...faults].slice(0, MAX_FAULTS_PER_ROW);
}

function refused(param: string, message: string): { fault: RowFault } {
  return { fault: { code: 'invalid_dataset', message, param } };
}

/** Rows of an answer with a label, for a decoder. */
class LabelledRowConverter implements RowConverter<LabelledRow> {
  readonly #answers: AnswerEncoder;

  constructor(answers: AnswerEncoder) {
    this.#answers = answers;
  }

  convert(row: LabelledRow): ConvertedRow | CodedFault[] {
    const answer = answerOfRow(row);
    if ('fault' in answer) return [answer.fault];
    const isText = 'completion' in answer;
    const textual = isText ? answer : answeredRow(answer);
    const at = (param: string) => (isText ? 'completion' : paramOfAnswer(answer, param));
    const sequence = this.#answers.encode(textual, at, false);
    const faults = this.#answers.faultsOf(sequence, 'completion');
    if (faults.length > 0) return faults;
    const remarks = this.#answers.remarksOn([textual], [sequence]);
    return { codes: codesOfAnswer({ sequence, label: row.label }), trained: trainedOf(sequence), remarks };
  }

  rendered(codes: Int32Array): RenderedRow {
    const { tokenizer, completionFormat } = this.#answers.settings;
    const { sequence, label } = answerOfCodes(codes.subarray(0, MAX_RENDERED_TOKENS));
    return { completion_format: completionFormat, first_row: renderedParts(tokenizer, sequence), label };
  }
}

/** A prompt with an answer, as tokens, and whether it is wanted. Targets of the loss are the tokens of the answer. */
export interface LabelledAnswer {
  sequence: EncodedRow;
  label: boolean;
}

/** Answers with a label. */
export interface LabelledExamples extends Examples {
  kind: 'labelled';
  answer(index: number): LabelledAnswer;
  label(index: number): boolean;
}

class StoredAnswers extends FileExamples implements LabelledExamples {
  readonly kind = 'labelled';

  answer(index: number): LabelledAnswer {
    return answerOfCodes(this.codes(index));
  }

  label(index: number): boolean {
    return isLabelled(this.firstCode(index));
  }
}

/** Marks the first code of an answer with the label true; ids are far smaller than 2^30. */
const LABEL = 0x40000000;

/** The codes of a sequence, of which the first has the label. So it is in every part that begins with the row. */
export function codesOfAnswer({ sequence, label }: LabelledAnswer): Int32Array {
  const codes = codesOfSequence(sequence);
  if (label) codes[0]! |= LABEL;
  return codes;
}

export function answerOfCodes(codes: Int32Array): LabelledAnswer {
  const ofSequence = codes.slice();
  ofSequence[0]! &= ~LABEL;
  return { sequence: sequenceOfCodes(ofSequence), label: isLabelled(codes[0]!) };
}

function isLabelled(code: number): boolean {
  return (code & LABEL) !== 0;
}

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

type LabelCounts = NonNullable<Report['labels']>;

/** Examples between two turns of the event loop. */
const LABELS_PER_TURN = 20_000;

/** The counts of answers with each label. @throws ProductError `cancelled` */
async function countLabels(examples: LabelledExamples, signal: AbortSignal | undefined): Promise<LabelCounts> {
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
