import { SeededRandom } from '@lorasmith/seeded-random';
import { PAGE_TOKENS, type TokenChoice, type TokenPenalties } from '@lorasmith/tensor';
import { TextStates, type TokenSpan } from './cached-pass.js';
import type { GenerationListener, PromptRequest, Sampling, TokenConstraint } from './request.js';

/** A request that runs, or waits to. */
export interface Running {
  request: PromptRequest;
  listener: GenerationListener;
  maxNewTokens: number;
  stopIds: ReadonlySet<number>;
  /** The texts that have not ended. */
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
  /** Its states of linear attention. */
  readonly states = new TextStates();
  /** Its pages in the cache, in the order of the text. */
  pages: readonly number[] = [];
  /** Its first tokens that are in pages of other choices, too. */
  sharedTokens = 0;
  /** The choice that reads the shared tokens, until it has; null: this one reads by itself. */
  waitsFor: Text | null = null;
  /** The tokens of the prompt that are scored, up to this index. */
  promptScored = 0;
  ended = false;
  /** Its first tokens that were known when it was first read, or read again. */
  #begun: number;
  /** Null without penalties. */
  readonly #counts: TokenCounts | null;
  /** Null: any token may come next. */
  readonly #constraint: TokenConstraint | null;

  constructor(running: Running, choice: number) {
    const { promptIds, sampling, constraint } = running.request;
    this.running = running;
    this.choice = choice;
    this.ids = [...promptIds];
    this.#begun = promptIds.length;
    this.#counts = sampling !== undefined && hasPenalties(sampling) ? new TokenCounts(promptIds) : null;
    this.#constraint = constraint?.() ?? null;
  }

  get promptTokens(): number {
    return this.running.request.promptIds.length;
  }

  get produced(): number {
    return this.ids.length - this.promptTokens;
  }

  /** Continues the text with a token. */
  add(id: number): void {
    this.ids.push(id);
    this.#counts?.add(id);
    this.#constraint?.accept(id);
  }

  /** True if no token may follow. */
  get isComplete(): boolean {
    return this.#constraint?.isComplete ?? false;
  }

  /** Tokens that the model has not read. */
  get unread(): number {
    return this.ids.length - this.cached;
  }

  /** Tokens that it may read in one step: others that wait for the shared ones continue from its states after these. */
  get readable(): number {
    return this.cached < this.sharedTokens ? this.sharedTokens - this.cached : this.unread;
  }

  /** Reads by itself once the shared tokens are in the cache. */
  followLeader(): void {
    if (this.waitsFor === null || this.waitsFor.cached < this.sharedTokens) return;
    this.#continueFrom(this.waitsFor);
  }

  /** Is read from its start. */
  restart(): void {
    this.cached = 0;
    this.#begun = this.ids.length;
    this.states.clear();
  }

  /** Another text has read what both begin with, and no more. */
  #continueFrom(other: Text): void {
    this.cached = other.cached;
    this.states.copyFrom(other.states);
    this.waitsFor = null;
  }

  /** When it ends before the shared tokens are read, the next of its request continues to read them. */
  passLead(others: readonly Text[]): void {
    const [next, ...rest] = others.filter(({ waitsFor }) => waitsFor === this);
    if (next === undefined) return;
    next.#continueFrom(this);
    for (const other of rest) other.waitsFor = next;
  }

  /** Its next tokens. All of a text that is known is its span. */
  nextSpan(tokens: number): TokenSpan {
    const { ids, cached, pages, running, states } = this;
    const own = Int32Array.from(ids.slice(cached, cached + tokens));
    const isPrompt = cached < this.#begun;
    return { ids: own, cached, tokens, isPrompt, pages, adapter: running.request.adapter, states, span: ids.length };
  }

  /** True if the prediction after a token is used. */
  wants(position: number): boolean {
    if (position === this.ids.length - 1) return true;
    return this.#isScored(position);
  }

  /** True if it predicts a token of the prompt whose log-probability is wanted. */
  #isScored(position: number): boolean {
    const { promptLogprobs = null, promptLast = this.promptTokens } = this.running.request;
    if (promptLogprobs === null || this.choice !== 0) return false;
    const predicted = position + 1;
    const first = Math.max(this.promptTokens - promptLast, this.promptScored + 1);
    return predicted >= first && predicted < this.promptTokens;
  }

  /** The number of most probable tokens after this one that are wanted with their log-probabilities; null: not even one. */
  #logprobsAt(position: number): number | null {
    const { logprobs = null, promptLogprobs = null } = this.running.request;
    return position < this.promptTokens - 1 ? promptLogprobs : logprobs;
  }

  /**
   * The choice of the token after this one; one of the prompt is only scored.
   * @throws Error of the text's constraint
   */
  choiceAt(position: number): TokenChoice {
    const { sampling } = this.running.request;
    const isInPrompt = position < this.promptTokens - 1;
    const { temperature = 0, topP = 1, topK = 0, minP = 0, seed = 0 } = sampling ?? {};
    const draws = temperature > 0 && !isInPrompt;
    return {
      given: isInPrompt ? this.ids[position + 1]! : null,
      ...{ temperature, topK, topP, minP },
      draw: draws ? drawOf(seed, this.choice, this.produced) : 0,
      penalties: isInPrompt || sampling === undefined ? null : (this.#counts?.penalties(sampling) ?? null),
      allowed: isInPrompt ? null : (this.#constraint?.allowed() ?? null),
      logprobs: this.#logprobsAt(position),
    };
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

/** The draw for a token of a choice, uniform in [0, 1): a function of the three numbers alone. */
export function drawOf(seed: number, choice: number, token: number): number {
  return new SeededRandom(seed, `choice ${choice} token ${token}`).next();
}

/** The number of times that each token is in a text, for penalties. */
export class TokenCounts {
  readonly #prompt: ReadonlySet<number>;
  readonly #produced = new Map<number, number>();

  constructor(promptIds: Iterable<number>) {
    this.#prompt = new Set(promptIds);
  }

  add(id: number): void {
    this.#produced.set(id, (this.#produced.get(id) ?? 0) + 1);
  }

  /**
   * The effect of penalties on the next token: `repetitionPenalty` to all tokens of the prompt and the new text (Keskar et al. 2019,
   * arXiv:1909.05858, as transformers has it), then `frequencyPenalty` and `presencePenalty` to those of the new text, as the OpenAI API
   * defines them.
   */
  penalties({ repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: Sampling): TokenPenalties {
    const ids = [...this.#produced.keys()];
    if (repetitionPenalty !== 1) for (const id of this.#prompt) if (!this.#produced.has(id)) ids.push(id);
    const subtracted = new Float32Array(ids.length);
    let index = 0;
    for (const count of this.#produced.values()) subtracted[index++] = count * frequencyPenalty + presencePenalty;
    return { repetition: repetitionPenalty, ids: Int32Array.from(ids), subtracted };
  }
}

/** True if the penalties change any logit. */
export function hasPenalties({ repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: Sampling): boolean {
  return repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
}
