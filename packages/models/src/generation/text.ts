import { PAGE_TOKENS } from '@lorasmith/tensor';
import type { TokenSpan } from './cached-pass.js';
import type { GenerationListener, PromptRequest } from './request.js';
import { chooseToken, drawOf, mostProbable } from './sampling.js';

/** A request that runs, or waits to. */
export interface Running {
  request: PromptRequest;
  listener: GenerationListener;
  maxNewTokens: number;
  stopIds: ReadonlySet<number>;
  /** Those that have not ended. */
  texts: Text[];
}

/** One choice of a request: a text that is being continued. */
export class Text {
  readonly running: Running;
  readonly choice: number;
  /** Prompt and new tokens. */
  readonly ids: number[];
  /** Its first tokens that are in the cache. */
  cached = 0;
  /** Its pages in the cache, in the order of the text. */
  pages: readonly number[] = [];
  /** Its first tokens that are in pages of other choices, too. */
  sharedTokens = 0;
  /** The choice that reads the shared tokens, until it has; null: this one reads by itself. */
  waitsFor: Text | null = null;
  /** The tokens of the prompt that are scored, up to this index. */
  promptScored = 0;
  ended = false;

  constructor(running: Running, choice: number) {
    this.running = running;
    this.choice = choice;
    this.ids = [...running.request.promptIds];
  }

  get promptTokens(): number {
    return this.running.request.promptIds.length;
  }

  get produced(): number {
    return this.ids.length - this.promptTokens;
  }

  /** Tokens that the model has not read. */
  get unread(): number {
    return this.ids.length - this.cached;
  }

  /** Reads by itself once the shared tokens are in the cache. */
  followLeader(): void {
    if (this.waitsFor === null || this.waitsFor.cached < this.sharedTokens) return;
    this.cached = this.sharedTokens;
    this.waitsFor = null;
  }

  /** When it ends before the shared tokens are read, the next of its request continues to read them. */
  passLead(others: readonly Text[]): void {
    const [next, ...rest] = others.filter(({ waitsFor }) => waitsFor === this);
    if (next === undefined) return;
    next.cached = Math.min(this.cached, this.sharedTokens);
    next.waitsFor = null;
    for (const other of rest) other.waitsFor = next;
  }

  /** Its next tokens. All of a text that is known is its span. */
  piece(tokens: number): TokenSpan {
    const { ids, cached, pages, running } = this;
    const own = Int32Array.from(ids.slice(cached, cached + tokens));
    return { ids: own, cached, tokens, pages, adapter: running.request.adapter, span: ids.length };
  }

  /** Whether the prediction after a token is used. */
  wants(position: number): boolean {
    if (position === this.ids.length - 1) return true;
    return this.#isScored(position);
  }

  /** Whether it predicts a token of the prompt whose log-probability is wanted. */
  #isScored(position: number): boolean {
    const { promptLogprobs = null } = this.running.request;
    const isInPrompt = position < this.promptTokens - 1 && position >= this.promptScored;
    return promptLogprobs !== null && this.choice === 0 && isInPrompt;
  }

  /** How many of the most probable tokens after this one are wanted with their log-probabilities; null: not even one. */
  logprobsAt(position: number): number | null {
    const { logprobs = null, promptLogprobs = null } = this.running.request;
    return position < this.promptTokens - 1 ? promptLogprobs : logprobs;
  }

  /** Whether more is needed of the logits after a token than the greatest. */
  needsLogits(position: number): boolean {
    return this.logprobsAt(position) !== null || (this.running.request.sampling?.temperature ?? 0) > 0;
  }

  /** The token after this one: in the prompt, or chosen. */
  chosen(position: number, logits: Float32Array): number {
    if (position < this.promptTokens - 1) return this.ids[position + 1]!;
    const { sampling } = this.running.request;
    if (sampling === undefined) return mostProbable(logits);
    return chooseToken(logits, sampling, drawOf(sampling.seed, this.choice, this.produced));
  }
}

/** Pages of a text. The last token that it produces is not read. */
export function pagesOf(promptTokens: number, maxNewTokens: number): number {
  return Math.ceil((promptTokens + Math.max(0, maxNewTokens - 1)) / PAGE_TOKENS);
}

/** Whole pages of a prompt that several choices share. Each reads at least its last token itself. */
export function sharedPages(promptTokens: number): number {
  return Math.floor((promptTokens - 1) / PAGE_TOKENS);
}
