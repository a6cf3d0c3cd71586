import type { TokenLogprob } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';

/** The log-probability that the OpenAI API reports for an impossible token. */
const IMPOSSIBLE = -9999;

/** The texts of single tokens of a base model, special ones included. */
export class TokenTexts {
  readonly #tokenizer: Tokenizer;
  /** Bounded by the vocabulary. */
  readonly #texts = new Map<number, string>();
  /** An ordinary token: alone, a token could lose the space before it. */
  readonly #anchor: number[];

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#anchor = [...tokenizer.encode('a')].slice(-1);
  }

  /** @param logprob - null: nothing predicts the token */
  logprobOf(id: number, logprob: number | null): TokenLogprob {
    const text = this.#textOf(id);
    const bytes = text.includes('\uFFFD') ? null : [...Buffer.from(text)];
    return { text, bytes, logprob: logprob === null ? null : Math.max(logprob, IMPOSSIBLE) };
  }

  #textOf(id: number): string {
    const known = this.#texts.get(id);
    if (known !== undefined) return known;
    const text = this.#tokenizer.decode([...this.#anchor, id]).slice(this.#tokenizer.decode(this.#anchor).length);
    this.#texts.set(id, text);
    return text;
  }
}
