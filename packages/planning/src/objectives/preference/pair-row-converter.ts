import {
  type ChatMessage,
  MAX_RENDERED_TOKENS,
  type MessagesRow,
  type PairRow,
  ProductError,
  type RenderedRow,
  type TextualRow,
} from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import type { RowRemark } from '../../row-conversion/row-remarks.js';
import type { RowEncoder } from '../next-token/encode-row.js';
import type { EncodedRow } from '../next-token/encode-segments.js';
import { trainedOf } from '../next-token/token-examples.js';
import { renderedParts, type TokenRowSettings, tokenOutside } from '../next-token/token-row-converter.js';
import { TypedSpecialTokens } from '../next-token/typed-special-tokens.js';
import type { ConvertedRow, RowConverter } from '../objective.js';
import { codesOfPair, pairOfCodes } from './pair-examples.js';
import { type Conversations, pairOfRow, paramWithin, type TextPair } from './pair-of-row.js';

export interface PairRowSettings extends TokenRowSettings {
  /** Writes texts as they are, without a chat template. */
  plainEncoder: RowEncoder;
}

const SIDES = ['chosen', 'rejected'] as const;

/** Rows of two answers to a prompt, for a decoder. */
export class PairRowConverter implements RowConverter<PairRow> {
  readonly #settings: PairRowSettings;
  readonly #typedSpecialTokens: TypedSpecialTokens;

  constructor(settings: PairRowSettings) {
    this.#settings = settings;
    this.#typedSpecialTokens = new TypedSpecialTokens(settings.tokenizer);
  }

  convert(row: PairRow): ConvertedRow | CodedFault[] {
    const pair = pairOfRow(row);
    if ('fault' in pair) return [pair.fault];
    const rows = pair.kind === 'text' ? textRows(pair) : conversationRows(pair);
    const encoder = pair.kind === 'text' && pair.isImplicit ? this.#settings.plainEncoder : this.#settings.encoder;
    const encoded = Object.fromEntries(
      SIDES.map((side) => [side, encode(encoder, rows[side], (param) => at(pair, side, param))]),
    ) as Record<(typeof SIDES)[number], EncodedRow>;
    const faults = SIDES.flatMap((side) => this.#faultsOf(encoded[side], pair.names[side]));
    if (faults.length > 0) return faults;
    const trained = trainedOf(encoded.chosen) + trainedOf(encoded.rejected);
    return { codes: codesOfPair(encoded), trained, remarks: this.#remarksOn(Object.values(rows), encoded) };
  }

  rendered(codes: Int32Array): RenderedRow {
    const { tokenizer, completionFormat } = this.#settings;
    const { chosen, rejected } = pairOfCodes(codes);
    const parts = ({ ids, trained }: EncodedRow) =>
      renderedParts(tokenizer, {
        ids: ids.subarray(0, MAX_RENDERED_TOKENS),
        trained: trained.subarray(0, MAX_RENDERED_TOKENS),
      });
    return { completion_format: completionFormat, first_row: parts(chosen), rejected: parts(rejected) };
  }

  #faultsOf(encoded: EncodedRow, param: string): CodedFault[] {
    const { vocabSize } = this.#settings;
    const outside = encoded.ids.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      return [{ code: 'model_file_corrupt', message: tokenOutside(outside, vocabSize, 'row') }];
    }
    if (trainedOf(encoded) > 0) return [];
    const message = 'No token of this answer is trained: it is empty, or is only the first token.';
    return [{ code: 'no_trained_tokens', message, param }];
  }

  #remarksOn(
    rows: readonly TextualRow[],
    { chosen, rejected }: Record<'chosen' | 'rejected', EncodedRow>,
  ): RowRemark[] {
    const remarks: RowRemark[] = [];
    const typed = rows.map((row) => this.#typedSpecialTokens.firstIn(row)).find((token) => token !== null);
    if (typed !== undefined) remarks.push({ code: 'special_token_in_text', detail: typed });
    if (chosen.isIncomplete || rejected.isIncomplete) remarks.push({ code: 'message_content_dropped' });
    return remarks;
  }
}

function textRows({ prompt, chosen, rejected }: TextPair): Record<(typeof SIDES)[number], TextualRow> {
  return { chosen: { prompt, completion: chosen }, rejected: { prompt, completion: rejected } };
}

/** The turns of the assistant in the prompt are not trained. */
function conversationRows(pair: Conversations): Record<(typeof SIDES)[number], MessagesRow> {
  const { prompt, tools } = pair;
  const read = prompt.map((message): MessagesRow['messages'][number] =>
    message.role === 'assistant' ? { ...message, weight: 0 } : message,
  );
  const row = (answer: readonly ChatMessage[]): MessagesRow => ({
    messages: [...read, ...answer],
    ...(tools === null ? {} : { tools: [...tools] }),
  });
  return { chosen: row(pair.chosen), rejected: row(pair.rejected) };
}

function at(pair: TextPair | Conversations, side: (typeof SIDES)[number], param: string): string {
  return pair.kind === 'text' ? pair.names[side] : paramWithin(pair, side, param);
}

/** Encodes one side; a fault names the field of the row. */
function encode(encoder: RowEncoder, row: TextualRow, paramOf: (param: string) => string): EncodedRow {
  try {
    return encoder.encode(row);
  } catch (error) {
    if (!(error instanceof ProductError) || error.param === undefined) throw error;
    throw new ProductError(error.code, error.message, { param: paramOf(error.param), cause: error });
  }
}
