import type { FinishReason, GenerationChunk, ScoredTokens } from '@lorasmith/contracts';
import { TextStream, type Tokenizer } from '@lorasmith/model-folder';
import type { ScoredToken } from '@lorasmith/models';
import type { ChoiceOutput } from './choice-output.js';
import { IMPOSSIBLE, StopTexts } from './choice-text.js';

export interface SampledTokensOptions {
  choice: number;
  promptIds: Int32Array;
  /** True if it sends what is reported of the prompt. */
  reportsPrompt: boolean;
  tokenizer: Tokenizer;
  /** Texts that end the choice, special tokens included. The tokens that have them are a part of it. */
  stop: readonly string[];
  onChunk: (piece: GenerationChunk) => void;
}

/** Log-probabilities in one chunk, of tokens and alternatives, to which those of one more token are added. */
const LOGPROBS_IN_CHUNK = 1_000;

/** Turns the tokens of one choice into chunks of tokens. */
export class SampledTokens implements ChoiceOutput {
  readonly #options: SampledTokensOptions;
  /** Null without stop texts. */
  readonly #text: { stream: TextStream; stop: StopTexts } | null;
  readonly #prompt = new TokenBatch();
  readonly #sampled = new TokenBatch();

  constructor(options: SampledTokensOptions) {
    this.#options = options;
    const { tokenizer, promptIds, stop } = options;
    this.#text =
      stop.length === 0
        ? null
        : { stream: new TextStream(tokenizer, promptIds, { skipSpecialTokens: false }), stop: new StopTexts(stop) };
  }

  promptToken(id: number, scored: ScoredToken | null): void {
    if (!this.#options.reportsPrompt) return;
    this.#prompt.add(id, scored);
    if (this.#prompt.isFull) this.#sendPrompt();
  }

  push(id: number, scored: ScoredToken | null): boolean {
    this.#sendPrompt();
    this.#sampled.add(id, scored);
    const isOver = this.#text?.stop.push(this.#text.stream.push(id)).stopped ?? false;
    if (isOver) this.#sendFinish('stop');
    else if (this.#sampled.isFull) this.#sendSampled();
    return isOver;
  }

  finish(reason: FinishReason): void {
    this.#sendPrompt();
    const isStopped = this.#text?.stop.push(this.#text.stream.end()).stopped ?? false;
    this.#sendFinish(isStopped ? 'stop' : reason);
  }

  #sendPrompt(): void {
    const tokens = this.#prompt.take();
    if (tokens !== null) this.#options.onChunk({ type: 'prompt-scored', tokens });
  }

  #sendSampled(): void {
    const { choice, onChunk } = this.#options;
    const tokens = this.#sampled.take();
    if (tokens !== null) onChunk({ type: 'tokens', choice, tokens });
  }

  #sendFinish(reason: FinishReason): void {
    const { choice, onChunk } = this.#options;
    this.#sendSampled();
    onChunk({ type: 'finish', choice, reason });
  }
}

/** Tokens of the next chunk. */
class TokenBatch {
  #tokens: { id: number; scored: ScoredToken | null }[] = [];
  #logprobs = 0;

  /** @param scored - Null: nothing predicts it. */
  add(id: number, scored: ScoredToken | null): void {
    this.#tokens.push({ id, scored });
    this.#logprobs += 1 + (scored?.top.length ?? 0);
  }

  get isFull(): boolean {
    return this.#logprobs >= LOGPROBS_IN_CHUNK;
  }

  /** Empties it; null if it is empty. */
  take(): ScoredTokens | null {
    const tokens = this.#tokens;
    if (tokens.length === 0) return null;
    this.#tokens = [];
    this.#logprobs = 0;
    const top = tokens.map(({ scored }) =>
      (scored?.top ?? []).map(({ id, logprob }): [number, number] => [id, Math.max(logprob, IMPOSSIBLE)]),
    );
    return {
      ids: tokens.map(({ id }) => id),
      logprobs: tokens.map(({ scored }) => (scored === null ? null : Math.max(scored.logprob, IMPOSSIBLE))),
      top: top.some((likely) => likely.length > 0) ? top : [],
    };
  }
}
