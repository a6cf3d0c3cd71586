import type { DecoderArchitecture } from './architecture.js';
import { type JsonObject, readOptionalJsonFile } from './config/json-file.js';
import { type ChatTemplate, loadChatTemplate, readChatTemplates } from './template/chat-template.js';
import type { TemplateConversation } from './template/template-messages.js';
import { loadTokenizer, MAX_TOKENIZER_BYTES, type Tokenizer } from './tokenizer/tokenizer.js';
import { digestTokenizer, type NamedTokens, namedTokensOf, readTokenizerConfig } from './tokenizer/tokenizer-files.js';

/** A text to continue, or a conversation whose next turn is asked for. */
export type Prompt = string | TemplateConversation;

/** Tokenizer and chat template of a base model: text to tokens, and back. */
export class ModelText {
  readonly tokenizer: Tokenizer;
  readonly #loadTemplate: () => Promise<ChatTemplate | null>;
  #template: Promise<ChatTemplate | null> | null = null;

  constructor(tokenizer: Tokenizer, loadTemplate: () => Promise<ChatTemplate | null>) {
    this.tokenizer = tokenizer;
    this.#loadTemplate = loadTemplate;
  }

  /** The chat template, loaded when it is first asked for; null if the model has none. @throws as {@link loadChatTemplate} */
  template(): Promise<ChatTemplate | null> {
    this.#template ??= this.#loadTemplate();
    return this.#template;
  }

  /**
   * A text becomes what the tokenizer makes of it alone, with the tokens that it adds, such as BOS. A conversation becomes what
   * the chat template makes of it, with the start of the assistant's next turn.
   *
   * @param begun - The text with which the assistant's turn begins.
   * @returns token ids; null for a conversation if the model has no chat template
   * @throws ProductError `chat_template_failed`
   */
  async tokensOf(prompt: Prompt, begun = ''): Promise<Int32Array | null> {
    if (typeof prompt === 'string') return this.tokenizer.encodeWithSpecialTokens(prompt);
    const template = await this.template();
    const { messages, tools } = prompt;
    return template && this.tokenizer.encode(template.render(messages, { addGenerationPrompt: true, tools }) + begun);
  }
}

/** Tokens that end an answer: those of the model's config, and that of its tokenizer. */
export function stopTokenIds({ eosTokenIds }: DecoderArchitecture, { eosTokenId }: Tokenizer): number[] {
  return [...new Set([...eosTokenIds, eosTokenId])].filter((id) => id !== null);
}

/** Loads the tokenizer of a base-model folder, and its chat template on demand. @throws as {@link loadTokenizer} */
export async function loadModelText(folder: string): Promise<ModelText> {
  return new ModelText(await loadTokenizer(folder), () => loadChatTemplate(folder));
}

/**
 * Keeps the tokenizer of one base model, which takes 0.1 to 2 seconds to load, as long as its files stay the same: the model
 * that was asked for last.
 */
export class ModelTexts {
  #kept: { folder: string; digest: string; text: Promise<ModelText> } | null = null;

  /** The same object until a file of the folder changes, or another folder is asked for. @throws as {@link loadTokenizer} */
  async of(folder: string): Promise<ModelText> {
    const digest = await digestTokenizer(folder);
    if (this.#kept?.folder === folder && this.#kept.digest === digest) return await this.#kept.text;
    const kept = { folder, digest, text: loadModelText(folder) };
    this.#kept = kept;
    return await kept.text.catch((error: unknown) => {
      if (this.#kept === kept) this.#kept = null;
      throw error;
    });
  }
}

/** The files of a tokenizer as they are, for writing them in another format. */
export interface TokenizerFiles {
  /** tokenizer.json. */
  tokenizer: JsonObject;
  /** tokenizer_config.json. */
  config: JsonObject;
  named: NamedTokens;
  /** The source of the chat template; null if the model has none. */
  chatTemplate: string | null;
}

/**
 * Reads the tokenizer and the chat template of a base-model folder without loading them.
 *
 * @returns null if the folder has no tokenizer.json
 * @throws ProductError `model_file_corrupt`, naming the file
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles | null> {
  const tokenizer = await readOptionalJsonFile(folder, 'tokenizer.json', MAX_TOKENIZER_BYTES);
  if (tokenizer === null) return null;
  const config = await readTokenizerConfig(folder);
  const templates = await readChatTemplates(folder, config);
  return { tokenizer, config, named: namedTokensOf(config), chatTemplate: templates?.source ?? null };
}

/** The character that an incomplete one decodes to. */
const REPLACEMENT = '\uFFFD';
/** Tokens. More without a complete character are no text: they are returned as they decode. */
const MAX_UNDECIDED = 16;
/** Tokens before a text on which the decoding of its first tokens may depend, such as whether a space is part of them. */
const CONTEXT_TOKENS = 5;

/**
 * Converts tokens to text as they come. A token may be a part of a character, so some text comes only with later tokens. All
 * chunks together are what the tokens decode to at once.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #ids: number[];
  /** The index at which decoding starts: a little before the text that is not returned yet. */
  #first = 0;
  /** The index of the first token whose text is not returned yet. */
  #undecided: number;

  readonly #options: { skipSpecialTokens: boolean };

  /** @param before - The tokens that the text continues. */
  constructor(
    tokenizer: Tokenizer,
    before: ArrayLike<number> & Iterable<number>,
    options: { skipSpecialTokens: boolean } = { skipSpecialTokens: true },
  ) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#ids = Array.from(before).slice(-CONTEXT_TOKENS);
    this.#undecided = this.#ids.length;
  }

  /** @returns the text that is complete with this token, often that of the token */
  push(id: number): string {
    this.#ids.push(id);
    const isTooLong = this.#ids.length - this.#undecided > MAX_UNDECIDED;
    const text = this.#newText();
    return text.endsWith(REPLACEMENT) && !isTooLong ? '' : this.#take(text);
  }

  /** The text of tokens that never became complete characters. */
  end(): string {
    return this.#take(this.#newText());
  }

  #newText(): string {
    const before = this.#decode(this.#ids.slice(this.#first, this.#undecided));
    return this.#decode(this.#ids.slice(this.#first)).slice(before.length);
  }

  #take(text: string): string {
    if (text === '') return text;
    this.#ids.splice(0, this.#first);
    this.#first = this.#undecided - this.#first;
    this.#undecided = this.#ids.length;
    return text;
  }

  #decode(ids: number[]): string {
    return this.#tokenizer.decode(ids, this.#options);
  }
}
