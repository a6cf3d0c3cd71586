import {
  type CompletionFormat,
  type DatasetFormat,
  type Fault,
  MAX_RENDERED_TOKENS,
  type MessagesRow,
  ProductError,
  type RenderedRow,
  type SamplePrompt,
  type TextualRow,
  textsOfConversation,
} from '@lorasmith/contracts';
import {
  type ChatTemplate,
  conversationOf,
  type TemplateConversation,
  type TemplateMessage,
  type Tokenizer,
  type TokensAround,
} from '@lorasmith/model-folder';
import { concatenate } from '../../example-file/example-file.js';
import type { CodedFault } from '../../fault-list.js';
import type { ConvertedRow, RemarkCount, RowConverter, RowRemark } from '../objective.js';
import { codesOfSequence, type EncodedRow, encodeSegments, sequenceOfCodes, trainedOf } from './token-examples.js';
import { turnSegments } from './turn-segments.js';

interface RowEncoderOptions {
  tokenizer: Tokenizer;
  /** Null if the model has none: prompts and instructions are then written as plain text. */
  template: ChatTemplate | null;
  /** Any of these ends a generated text; the first is appended where an end is missing. May be empty. */
  endTokenIds: readonly number[];
  /** `text`: prompts and instructions are plain text although there is a template. @defaultValue `chat` */
  completionFormat?: CompletionFormat;
}

/** Converts rows to tokens with their loss mask. */
export class RowEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate | null;
  /** The template of prompts and completions; null: they are written as they are. */
  readonly #completionTemplate: ChatTemplate | null;
  readonly #endTokenIds: readonly number[];
  readonly #marks: readonly string[];
  readonly #around: TokensAround;

  constructor({ tokenizer, template, endTokenIds, completionFormat = 'chat' }: RowEncoderOptions) {
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#completionTemplate = completionFormat === 'text' ? null : template;
    this.#endTokenIds = endTokenIds;
    this.#marks = [...tokenizer.specialTokens.values()];
    this.#around = tokenizer.tokensAround();
  }

  /**
   * - `messages`: by the chat template, with its tools; loss on every assistant turn whose weight is not 0.
   * - `prompt_completion`, `instruction`: as a user and an assistant turn. Without a chat template, or if text was chosen, as
   *   plain text, an instruction in the form of Stanford Alpaca, the answer followed by the end-of-text token.
   * - `text`: what the tokenizer itself puts before a text (BOS), the text, the end-of-text token; loss on all.
   *
   * The first token has no loss: nothing predicts it.
   *
   * @throws ProductError `chat_template_failed`; `dataset_format_mismatch` for messages without a chat template.
   */
  encode(row: TextualRow): EncodedRow {
    const encoded = this.#encode(row);
    encoded.trained[0] = 0;
    return encoded;
  }

  /** The form in which prompts and completions are written. */
  get completionFormat(): CompletionFormat {
    return this.#completionTemplate === null ? 'text' : 'chat';
  }

  /**
   * The prompt that a model reads before it answers: a text as rows of this format have it before what is trained, or a conversation.
   * @throws ProductError `chat_template_failed`; `invalid_job` for a conversation without a chat template
   */
  encodePrompt(prompt: SamplePrompt, format: DatasetFormat): Int32Array {
    if (typeof prompt !== 'string') return this.#encodeTurns({ messages: prompt, tools: null });
    const template = format === 'messages' ? this.#template : this.#completionTemplate;
    if (format !== 'text' && template !== null) {
      return this.#encodeTurns({ messages: [{ role: 'user', content: prompt }], tools: null });
    }
    const text = format === 'instruction' ? instructionPrompt({ instruction: prompt }, true) : prompt;
    return concatenate([this.#around.before, this.#tokenizer.encode(text)]);
  }

  /**
   * A conversation of a row, whose next turn is wanted.
   * @throws ProductError `chat_template_failed`; `invalid_job` without a chat template
   */
  encodeAsked(source: Parameters<typeof conversationOf>[0]): Int32Array {
    return this.#encodeTurns(conversationOf(source));
  }

  #encodeTurns({ messages, tools }: TemplateConversation): Int32Array {
    if (this.#template !== null) {
      return this.#tokenizer.encode(this.#template.render(messages, { addGenerationPrompt: true, tools }));
    }
    const message =
      'The base model has no chat template, so it answers no list of messages. Send the prompt as a text.';
    throw new ProductError('invalid_job', message);
  }

  #encode(row: TextualRow): EncodedRow {
    if ('text' in row) return this.#encodeText(row.text);
    if ('messages' in row) {
      if (this.#template !== null) return this.#encodeConversation(this.#template, row);
      const message =
        'The base model has no chat template, so it cannot be trained on "messages". Use "prompt" and "completion".';
      throw new ProductError('dataset_format_mismatch', message, { param: 'messages' });
    }
    const template = this.#completionTemplate;
    const [prompt, answer] =
      'prompt' in row ? [row.prompt, row.completion] : [instructionPrompt(row, template === null), row.output];
    if (template === null) return this.#encodePrompt(prompt, answer);
    const messages: MessagesRow['messages'] = [
      { role: 'user', content: prompt },
      { role: 'assistant', content: answer },
    ];
    return this.#encodeConversation(template, { messages });
  }

  #encodeText(text: string): EncodedRow {
    const { before, after } = this.#around;
    const ids = this.#ended(concatenate([before, this.#tokenizer.encode(text), after]));
    return { ids, trained: new Uint8Array(ids.length).fill(1) };
  }

  #encodePrompt(prompt: string, completion: string): EncodedRow {
    const segments = [
      { text: prompt, trained: false },
      { text: completion, trained: true },
    ].filter(({ text }) => text !== '');
    const { before } = this.#around;
    const row = encodeSegments(this.#tokenizer, segments);
    const ids = this.#ended(concatenate([before, row.ids]));
    const trained = new Uint8Array(ids.length).fill(1);
    trained.fill(0, 0, before.length);
    trained.set(row.trained, before.length);
    return { ids, trained };
  }

  #encodeConversation(template: ChatTemplate, source: MessagesRow): EncodedRow {
    const conversation = conversationOf(source);
    const turns = turnSegments(template, conversation, this.#marks);
    const text = turns.map((segment) => segment.text).join('');
    let isIncomplete = false;
    for (const [index, message] of conversation.messages.entries()) {
      const turn = turns.find((segment) => segment.turn === index);
      if (source.messages[index]?.weight === 0 && turn === undefined) throw unmarkedTurn(index);
      refuseMissingCalls(message, turn?.text ?? text, index);
      refuseMissingAnswer(message, text, index);
      if (!rendersWhole(text, message, turn?.text)) isIncomplete = true;
    }
    const segments = turns.map(({ turn, trained, ...segment }) => ({
      ...segment,
      trained: trained && source.messages[turn!]?.weight !== 0,
    }));
    const row = encodeSegments(this.#tokenizer, segments);
    if (isIncomplete) row.isIncomplete = true;
    // Some templates write the end of a turn only once another turn follows, and some leave the last turn open. A model
    // trained on that never learns to stop.
    for (let end = 1; end < row.ids.length; end++) {
      const isAfterTurn = row.trained[end - 1] === 1 && row.trained[end] === 0;
      if (isAfterTurn && this.#endTokenIds.includes(row.ids[end]!) && !this.#endsTurn(row, end)) row.trained[end] = 1;
    }
    const lastTurnIsOpen = row.trained.at(-1) === 1 && !this.#endsTurn(row, row.ids.length);
    if (!lastTurnIsOpen) return row;
    const ids = this.#ended(row.ids);
    const trained = new Uint8Array(ids.length).fill(1);
    trained.set(row.trained);
    return { ...row, ids, trained };
  }

  /** True if a mark that is no text is among the tokens of the trained stretch that ends here. */
  #endsTurn({ ids, trained }: EncodedRow, end: number): boolean {
    for (let index = end - 1; index >= 0 && trained[index] === 1; index--) {
      const id = ids[index]!;
      if (this.#tokenizer.specialTokens.has(id) || this.#endTokenIds.includes(id)) return true;
    }
    return false;
  }

  #ended(ids: Int32Array): Int32Array {
    const [end] = this.#endTokenIds;
    const last = ids.at(-1);
    if (end === undefined || (last !== undefined && this.#endTokenIds.includes(last))) return ids;
    return concatenate([ids, Int32Array.of(end)]);
  }
}

function unmarkedTurn(index: number): ProductError {
  const message =
    'The chat template of the base model marks other turns than the assistant has in this row, so the weight 0 cannot be ' +
    'applied. Leave the weights out, or put the turns that are not to be trained into a row of their own.';
  return new ProductError('chat_template_failed', message, { param: `messages.${index}.weight` });
}

/** The user's turn, or the whole prompt in the form of Stanford Alpaca (https://github.com/tatsu-lab/stanford_alpaca). */
export function instructionPrompt(row: { instruction: string; input?: string }, asPlainText: boolean): string {
  const { instruction, input = '' } = row;
  if (!asPlainText) return input === '' ? instruction : `${instruction}\n\n${input}`;
  if (input === '') {
    return (
      'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n' +
      `### Instruction:\n${instruction}\n\n### Response:\n`
    );
  }
  return (
    'Below is an instruction that describes a task, paired with an input that provides further context. ' +
    'Write a response that appropriately completes the request.\n\n' +
    `### Instruction:\n${instruction}\n\n### Input:\n${input}\n\n### Response:\n`
  );
}

/**
 * True if a rendered conversation has content and reasoning of a message and the name of who speaks, apart from white space.
 * @param turn - The text of its turn, in which its reasoning is looked for: models repeat what they think.
 */
function rendersWhole(text: string, message: TemplateMessage, turn = text): boolean {
  const { role, content, name, reasoning_content: reasoning = '' } = message;
  // What a tool answered is found by its place; few templates repeat its name.
  return (
    hasWords(text, content) &&
    hasWords(turn, reasoning) &&
    (name === undefined || role === 'tool' || text.includes(name))
  );
}

/**
 * A turn whose calls are missing teaches the model not to call. Some templates write calls only of messages without content, or only one.
 * @param text of this turn
 * @throws ProductError `chat_template_failed`
 */
function refuseMissingCalls({ tool_calls: calls }: TemplateMessage, text: string, index: number): void {
  for (const [number, { function: called }] of (calls ?? []).entries()) {
    const missing = [called.name, ...stringsOf(called.arguments)].find((part) => !hasText(text, part));
    if (missing === undefined) continue;
    const message =
      `The chat template of the base model does not write the whole call: ${JSON.stringify(missing.slice(0, 64))} is missing. ` +
      'Some templates write only one call of a message, or none beside a content.';
    throw new ProductError('chat_template_failed', message, { param: `messages.${index}.tool_calls.${number}` });
  }
}

/**
 * Refuses a template that leaves out a tool's answer: the model learns to make it up.
 * @param text of the whole conversation
 * @throws ProductError `chat_template_failed`
 */
function refuseMissingAnswer({ role, content }: TemplateMessage, text: string, index: number): void {
  if (role !== 'tool' || hasText(text, content)) return;
  const message = 'The chat template of the base model does not write what the tool answered in this message.';
  throw new ProductError('chat_template_failed', message, { param: `messages.${index}` });
}

/** True if it is there, apart from white space. */
function hasWords(text: string, content: string): boolean {
  const words = (all: string) => all.replace(/\s+/g, '');
  return text.includes(content) || words(text).includes(words(content));
}

/** True if every word of it is there: templates quote texts in ways of their own. */
function hasText(text: string, part: string): boolean {
  return text.includes(part) || (part.match(/[\p{L}\p{N}]+/gu) ?? []).every((word) => text.includes(word));
}

function stringsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  const keys = Array.isArray(value) ? [] : Object.keys(value);
  return [...keys, ...Object.values(value).flatMap(stringsOf)];
}

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
