import { type LabelledRow, MAX_RENDERED_TOKENS, type RenderedRow } from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import { trainedOf } from '../next-token/token-examples.js';
import { renderedParts } from '../next-token/token-row-converter.js';
import type { ConvertedRow, RowConverter } from '../objective.js';
import { type AnswerEncoder, answeredRow } from '../preference/answer-encoder.js';
import { answerOfCodes, codesOfAnswer } from './labelled-examples.js';
import { answerOfRow, paramOfAnswer } from './labelled-format.js';

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
