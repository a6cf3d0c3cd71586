import { MAX_RENDERED_TOKENS, type PairRow, type RenderedRow, type TextualRow } from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import type { EncodedRow } from '../next-token/encode-segments.js';
import { trainedOf } from '../next-token/token-examples.js';
import { renderedParts } from '../next-token/token-row-converter.js';
import type { ConvertedRow, RowConverter } from '../objective.js';
import { type AnswerEncoder, answeredRow } from './answer-encoder.js';
import { codesOfPair, pairOfCodes } from './pair-examples.js';
import { type Conversations, pairOfRow, paramWithin, type TextPair } from './pair-of-row.js';

const SIDES = ['chosen', 'rejected'] as const;

/** Rows of two answers to a prompt, for a decoder. */
export class PairRowConverter implements RowConverter<PairRow> {
  readonly #answers: AnswerEncoder;

  constructor(answers: AnswerEncoder) {
    this.#answers = answers;
  }

  convert(row: PairRow): ConvertedRow | CodedFault[] {
    const pair = pairOfRow(row);
    if ('fault' in pair) return [pair.fault];
    const rows = pair.kind === 'text' ? textRows(pair) : conversationRows(pair);
    const isPlain = pair.kind === 'text' && pair.isImplicit;
    const encoded = Object.fromEntries(
      SIDES.map((side) => [side, this.#answers.encode(rows[side], (param) => at(pair, side, param), isPlain)]),
    ) as Record<(typeof SIDES)[number], EncodedRow>;
    const faults = SIDES.flatMap((side) => this.#answers.faultsOf(encoded[side], pair.names[side]));
    if (faults.length > 0) return faults;
    const trained = trainedOf(encoded.chosen) + trainedOf(encoded.rejected);
    const remarks = this.#answers.remarksOn(Object.values(rows), Object.values(encoded));
    return { codes: codesOfPair(encoded), trained, remarks };
  }

  rendered(codes: Int32Array): RenderedRow {
    const { tokenizer, completionFormat } = this.#answers.settings;
    const { chosen, rejected } = pairOfCodes(codes);
    const parts = ({ ids, trained }: EncodedRow) =>
      renderedParts(tokenizer, {
        ids: ids.subarray(0, MAX_RENDERED_TOKENS),
        trained: trained.subarray(0, MAX_RENDERED_TOKENS),
      });
    return { completion_format: completionFormat, first_row: parts(chosen), rejected: parts(rejected) };
  }
}

function textRows({ prompt, chosen, rejected }: TextPair): Record<(typeof SIDES)[number], TextualRow> {
  return { chosen: { prompt, completion: chosen }, rejected: { prompt, completion: rejected } };
}

function conversationRows(pair: Conversations): Record<(typeof SIDES)[number], TextualRow> {
  return {
    chosen: answeredRow({ ...pair, answer: pair.chosen }),
    rejected: answeredRow({ ...pair, answer: pair.rejected }),
  };
}

function at(pair: TextPair | Conversations, side: (typeof SIDES)[number], param: string): string {
  return pair.kind === 'text' ? pair.names[side] : paramWithin(pair, side, param);
}
