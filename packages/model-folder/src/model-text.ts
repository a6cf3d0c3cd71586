import type { DecoderArchitecture } from './architecture.js';
import { type ChatTemplate, loadChatTemplate } from './chat-template.js';
import type { TemplateConversation } from './conversation.js';
import { loadTokenizer, type Tokenizer } from './tokenizer.js';
import { digestTokenizer } from './tokenizer-digest.js';

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

/** Loads what turns text into tokens of a base-model folder. @throws as {@link loadTokenizer} */
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
