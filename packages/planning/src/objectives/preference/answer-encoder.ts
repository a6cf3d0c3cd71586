import {
  type ChatMessage,
  conversationFaults,
  type MessagesRow,
  ProductError,
  type TextualRow,
  type Tool,
  textOfMessage,
  textsOfConversation,
  toolCallsOf,
  unsupportedParts,
} from '@lorasmith/contracts';
import type { ModelTexts } from '@lorasmith/model-folder';
import type { CodedFault } from '../../fault-list.js';
import { RowEncoder, type TokenRowSettings, TypedSpecialTokens, tokenOutside } from '../next-token/encode-row.js';
import { decoderOf, rowEncoder, unicodeFaults } from '../next-token/next-token.js';
import { type EncodedRow, trainedOf } from '../next-token/token-examples.js';
import type { RowFault, RowRemark, RowsOfModel } from '../objective.js';

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

/** A prompt with an answer, as messages. */
export interface AnsweredPrompt {
  prompt: readonly ChatMessage[];
  answer: readonly ChatMessage[];
  tools: readonly Tool[] | null;
  parallelToolCalls: boolean | undefined;
}

/** Parts of messages that are not text, named as such. @param lists by their path within the row */
export function partFaults(lists: readonly [path: string, messages: unknown][]): RowFault[] {
  return lists.flatMap(([at, messages]) =>
    unsupportedParts({ messages }).map(({ message, param }) => ({
      code: 'invalid_dataset' as const,
      message,
      param: param.replace(/^messages/, at),
    })),
  );
}

/** The fault of a prompt that is answered already. */
export function promptFaults(prompt: readonly ChatMessage[], param: string): RowFault[] {
  if (prompt.at(-1)?.role !== 'assistant') return [];
  const message = 'The last message before the answers is of the assistant. End the prompt with another role.';
  return [{ code: 'invalid_dataset', message, param }];
}

/**
 * The faults of a conversation that ends with an answer.
 * @param at the field of the row for a path within the conversation
 */
export function answerFaults(
  { prompt, answer, tools, parallelToolCalls }: AnsweredPrompt,
  param: string,
  at: (path: string) => string,
): RowFault[] {
  const messages = [...prompt, ...answer];
  const wrong = conversationFaults(messages, { tools, parallelToolCalls });
  if (wrong.length > 0) {
    return wrong.map(({ message, param }) => ({ code: 'invalid_dataset', message, param: at(param) }));
  }
  const faults = unicodeFaults(textsOfConversation(messages, tools).map(([path, text]) => [at(path), text]));
  const turns = answer.filter(({ role }) => role === 'assistant');
  const isEmpty = turns.every((turn) => textOfMessage(turn) === '' && toolCallsOf(turn).length === 0);
  return isEmpty ? [...faults, emptyAnswer(param)] : faults;
}

export function emptyAnswer(param: string): RowFault {
  return { code: 'no_trained_tokens', message: 'The answer is empty, so there is nothing to train.', param };
}
