import { DatasetRow, type LabelledRow, MAX_RENDERED_TOKENS, type RenderedRow } from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { type Examples, FileExamples } from '../../example-file/examples.js';
import type { CodedFault } from '../../fault-list.js';
import { unicodeFaults } from '../next-token/row-formats.js';
import { codesOfSequence, type EncodedRow, sequenceOfCodes, trainedOf } from '../next-token/token-examples.js';
import { renderedParts } from '../next-token/token-row-converter.js';
import {
  type ConvertedRow,
  MAX_FAULTS_PER_ROW,
  type RowConverter,
  type RowFault,
  type RowFormat,
} from '../objective.js';
import {
  type AnswerEncoder,
  type AnsweredPrompt,
  answeredRow,
  answerFaults,
  emptyAnswer,
  partFaults,
  promptFaults,
} from '../preference/answer-encoder.js';

/** Rows of an answer, and whether it is wanted. */
export const LABELLED_FORMAT: RowFormat = {
  name: 'labelled_completion',
  tellingKeys: ['label'],
  besideKeys: ['prompt', 'completion'],
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
export interface TextAnswer {
  prompt: string;
  completion: string;
}

/** A row as one of its forms. */
export function answerOfRow(row: LabelledRow): TextAnswer | AnsweredPrompt | { fault: RowFault } {
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
export function paramOfAnswer({ prompt }: Pick<AnsweredPrompt, 'prompt'>, param: string): string {
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
export class LabelledRowConverter implements RowConverter<LabelledRow> {
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

export class StoredAnswers extends FileExamples implements LabelledExamples {
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
