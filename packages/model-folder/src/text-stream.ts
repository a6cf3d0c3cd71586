import type { Tokenizer } from './tokenizer.js';

/** The character that an incomplete one decodes to. */
const REPLACEMENT = '\uFFFD';
/** So many tokens without a complete character are no text: they are taken as they decode. */
const MAX_UNDECIDED = 16;
/** Tokens before a text on which the decoding of its first tokens may depend, such as whether a space is part of them. */
const CONTEXT_TOKENS = 5;

/**
 * Turns tokens into text as they come. A token may be a part of a character, so some text comes only with later tokens. All
 * pieces together are what the tokens decode to at once.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #ids: number[];
  /** Where decoding starts: a little before the text that is not returned yet. */
  #first = 0;
  /** Where the tokens start whose text is not returned yet. */
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
