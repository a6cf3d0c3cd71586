import { type ChatMessage, type MessagesRow, ProductError, type TextualRow, type Tool } from '@lorasmith/contracts';
import type { ModelTexts } from '@lorasmith/model-folder';
import type { CodedFault } from '../../fault-list.js';
import type { RowRemark } from '../../row-conversion/row-remarks.js';
import { RowEncoder } from '../next-token/encode-row.js';
import type { EncodedRow } from '../next-token/encode-segments.js';
import { decoderOf, rowEncoder } from '../next-token/next-token.js';
import { trainedOf } from '../next-token/token-examples.js';
import { type TokenRowSettings, tokenOutside } from '../next-token/token-row-converter.js';
import { TypedSpecialTokens } from '../next-token/typed-special-tokens.js';
import type { RowsOfModel } from '../objective.js';
import type { AnsweredPrompt } from './answer-faults.js';

/** Encodes prompts, each with one answer, of which the answer is trained. */
export class AnswerEncoder {
  readonly settings: TokenRowSettings;
  readonly #plainEncoder: RowEncoder;
  readonly #typedSpecialTokens: TypedSpecialTokens;

  /** @param plainEncoder writes texts as they are, without a chat template */
  constructor(settings: TokenRowSettings, plainEncoder: RowEncoder) {
    this.settings = settings;
    this.#plainEncoder = plainEncoder;
    this.#typedSpecialTokens = new TypedSpecialTokens(settings.tokenizer);
  }

  /**
   * @param at the field of the row for a path within this one, of a fault
   * @param isPlain whether a text is written as it is
   * @throws ProductError as {@link RowEncoder.encode}
   */
  encode(row: TextualRow, at: (param: string) => string, isPlain: boolean): EncodedRow {
    try {
      return (isPlain ? this.#plainEncoder : this.settings.encoder).encode(row);
    } catch (error) {
      if (!(error instanceof ProductError) || error.param === undefined) throw error;
      throw new ProductError(error.code, error.message, { param: at(error.param), cause: error });
    }
  }

  /** @param param the field that has the answer */
  faultsOf(encoded: EncodedRow, param: string): CodedFault[] {
    const { vocabSize } = this.settings;
    const outside = encoded.ids.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      return [{ code: 'model_file_corrupt', message: tokenOutside(outside, vocabSize, 'row') }];
    }
    if (trainedOf(encoded) > 0) return [];
    const message = 'No token of this answer is trained: it is empty, or is only the first token.';
    return [{ code: 'no_trained_tokens', message, param }];
  }

  remarksOn(rows: readonly TextualRow[], encoded: readonly EncodedRow[]): RowRemark[] {
    const remarks: RowRemark[] = [];
    const typed = rows.map((row) => this.#typedSpecialTokens.firstIn(row)).find((token) => token !== null);
    if (typed !== undefined) remarks.push({ code: 'special_token_in_text', detail: typed });
    if (encoded.some(({ isIncomplete }) => isIncomplete)) remarks.push({ code: 'message_content_dropped' });
    return remarks;
  }
}

export async function answerEncoder(rows: RowsOfModel, texts: ModelTexts): Promise<AnswerEncoder> {
  const { vocabSize } = decoderOf(rows.model);
  const { encoder, tokenizer, endTokenIds } = await rowEncoder(rows, texts, true);
  const plainEncoder = new RowEncoder({ tokenizer, template: null, endTokenIds });
  return new AnswerEncoder({ encoder, tokenizer, vocabSize, completionFormat: encoder.completionFormat }, plainEncoder);
}

/** A conversation in which the turns of the assistant before the answer are not trained. */
export function answeredRow({ prompt, answer, tools }: Omit<AnsweredPrompt, 'parallelToolCalls'>): MessagesRow {
  const read = prompt.map((message: ChatMessage): MessagesRow['messages'][number] =>
    message.role === 'assistant' ? { ...message, weight: 0 } : message,
  );
  return { messages: [...read, ...answer], ...toolsOf(tools) };
}

function toolsOf(tools: readonly Tool[] | null): Pick<MessagesRow, 'tools'> {
  return tools === null ? {} : { tools: [...tools] };
}
