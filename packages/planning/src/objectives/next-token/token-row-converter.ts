import {
  type CompletionFormat,
  type Fault,
  MAX_RENDERED_TOKENS,
  type RenderedRow,
  type TextualRow,
  textsOfConversation,
} from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';
import type { CodedFault } from '../../fault-list.js';
import type { RemarkCount, RowRemark } from '../../row-conversion/remarks.js';
import type { ConvertedRow, RowConverter } from '../objective.js';
import type { RowEncoder } from './encode-row.js';
import { codesOfSequence, type EncodedRow, sequenceOfCodes, trainedOf } from './token-examples.js';

export interface TokenRowSettings {
  encoder: RowEncoder;
  tokenizer: Tokenizer;
  /** Vocabulary of the model: every token id is below it. */
  vocabSize: number;
  /** The form of the rows; null for rows that are neither prompt and completion nor instruction and output. */
  completionFormat: CompletionFormat | null;
}

/** Rows of text for a decoder. */
export class TokenRowConverter implements RowConverter<TextualRow> {
  readonly #settings: TokenRowSettings;
  readonly #typedSpecialTokens: TypedSpecialTokens;

  constructor(settings: TokenRowSettings) {
    this.#settings = settings;
    this.#typedSpecialTokens = new TypedSpecialTokens(settings.tokenizer);
  }

  convert(row: TextualRow): ConvertedRow | CodedFault[] {
    const { encoder, vocabSize } = this.#settings;
    const encoded = encoder.encode(row);
    const outside = encoded.ids.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      return [{ code: 'model_file_corrupt', message: tokenOutside(outside, vocabSize, 'row') }];
    }
    const trained = trainedOf(encoded);
    if (trained === 0) {
      const message = 'No token of this row is trained: what should be trained is empty or is only the first token.';
      return [{ code: 'no_trained_tokens', message }];
    }
    const remarks: RowRemark[] = [];
    const typed = this.#typedSpecialTokens.firstIn(row);
    if (typed !== null) remarks.push({ code: 'special_token_in_text', detail: typed });
    if (encoded.isIncomplete) remarks.push({ code: 'message_content_dropped' });
    return { codes: codesOfSequence(encoded), trained, remarks };
  }

  rendered(codes: Int32Array): RenderedRow {
    const { tokenizer, completionFormat } = this.#settings;
    const first_row = renderedParts(tokenizer, sequenceOfCodes(codes.subarray(0, MAX_RENDERED_TOKENS)));
    return { completion_format: completionFormat, first_row };
  }
}

/** A sequence as text, cut where training begins or ends. */
export function renderedParts(tokenizer: Tokenizer, { ids, trained }: EncodedRow): RenderedRow['first_row'] {
  const parts: RenderedRow['first_row'] = [];
  for (let start = 0, end = 0; start < ids.length; start = end) {
    while (end < ids.length && trained[end] === trained[start]) end++;
    parts.push({ text: tokenizer.decode(ids.subarray(start, end)), trained: trained[start] === 1 });
  }
  return parts;
}

/** The message for a token that the model has not. */
export function tokenOutside(id: number, vocabSize: number, what: 'row' | 'prompt'): string {
  return `The tokenizer gives the token ${id} for this ${what}, but the model has only ${vocabSize} tokens. Use the tokenizer that belongs to the model.`;
}

export const REMARK_WARNINGS = {
  special_token_in_text: ({ rows, line, detail }: RemarkCount): Fault => {
    const message =
      `${rows} rows contain a special token of the model as text, the first ${JSON.stringify(detail)} ` +
      `in line ${line}. It becomes that token. Remove it unless you intend this.`;
    return { code: 'special_token_in_text', message, line };
  },
  message_content_dropped: ({ rows, line }: RemarkCount): Fault => {
    const message =
      `${rows} rows have a message that the chat template of the base model does not render completely: it leaves out the ` +
      `reasoning of an answer, for instance. The first is line ${line}. The model is trained without that part.`;
    return { code: 'message_content_dropped', message, line };
  },
};

/**
 * Finds special tokens that are written out in the text of rows. They are encoded as those tokens, as other trainers do.
 * That may be intended, or may let the text end its own turn, so the report warns of it.
 */
export class TypedSpecialTokens {
  readonly #pattern: RegExp | null;

  constructor(tokenizer: Tokenizer) {
    const tokens = [...tokenizer.specialTokens.values()].filter((token) => token !== '');
    const escaped = tokens.map((token) => token.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    this.#pattern = escaped.length > 0 ? new RegExp(escaped.join('|')) : null;
  }

  /** The first in a row; null if there is none. */
  firstIn(row: TextualRow): string | null {
    if (this.#pattern === null) return null;
    const texts =
      'messages' in row ? textsOfConversation(row.messages, row.tools).map(([, text]) => text) : Object.values(row);
    for (const text of texts) {
      const match = this.#pattern.exec(text);
      if (match !== null) return match[0];
    }
    return null;
  }
}
