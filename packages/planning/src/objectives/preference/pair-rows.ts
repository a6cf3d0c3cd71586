import { MAX_RENDERED_TOKENS, type PairRow, type RenderedRow, type TextualRow } from '@lorasmith/contracts';
import { type ExampleSource, type Examples, FileExamples } from '../../example-file/examples.js';
import type { CodedFault } from '../../fault-list.js';
import { codesOfSequence, type EncodedRow, sequenceOfCodes, trainedOf } from '../next-token/token-examples.js';
import { renderedParts } from '../next-token/token-row-converter.js';
import type { ConvertedRow, RowConverter } from '../objective.js';
import { type AnswerEncoder, answeredRow } from './answer-encoder.js';
import { type Conversations, pairOfRow, paramWithin, type TextPair } from './pair-formats.js';

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

/** A prompt with each of its two answers, as tokens. Targets of the loss are the tokens of the answers. */
export interface TokenPair {
  chosen: EncodedRow;
  rejected: EncodedRow;
}

/** Pairs of answers, for any objective of them. The length of an example is that of both sequences together. */
export interface PairExamples<Kind extends string = 'preference'> extends Examples {
  readonly kind: Kind;
  pair(index: number): TokenPair;
}

export class StoredPairs<Kind extends string> extends FileExamples implements PairExamples<Kind> {
  readonly kind: Kind;

  constructor(source: ExampleSource, kind: Kind) {
    super(source);
    this.kind = kind;
  }

  pair(index: number): TokenPair {
    return pairOfCodes(this.codes(index));
  }
}

/** Marks the code with which the second sequence begins; ids are far smaller than 2^30. */
const SECOND = 0x40000000;

/**
 * A pair in codes of 4 bytes: the first sequence from its end to its beginning, then the second. So both, cut to the same length, are a
 * part of the codes.
 */
export function codesOfPair({ chosen, rejected }: TokenPair): Int32Array {
  const codes = new Int32Array(chosen.ids.length + rejected.ids.length);
  codes.set(codesOfSequence(chosen).reverse());
  codes.set(codesOfSequence(rejected), chosen.ids.length);
  codes[chosen.ids.length]! |= SECOND;
  return codes;
}

/** The length of the first sequence. */
export function lengthOfFirst(codes: Int32Array): number {
  return codes.findIndex((code) => (code & SECOND) !== 0);
}

export function pairOfCodes(codes: Int32Array): TokenPair {
  const middle = lengthOfFirst(codes);
  const second = codes.slice(middle);
  second[0]! &= ~SECOND;
  return { chosen: sequenceOfCodes(codes.slice(0, middle).reverse()), rejected: sequenceOfCodes(second) };
}

/** Tokens of the longer of the two sequences. */
export function longerOf(codes: Int32Array): number {
  const first = lengthOfFirst(codes);
  return Math.max(first, codes.length - first);
}
