import { type ChosenToken, PAGE_TOKENS, type TokenChoice } from '@lorasmith/tensor';
import type { Decoder } from '../decoder/decoder.js';
import type { ModelAdapter } from '../pass.js';
import { CachedDecoder, cacheBytes, type Predictions, type TokenSpan } from './cached-pass.js';
import {
  type GenerationHandle,
  type GenerationListener,
  NotFiniteError,
  type PromptRequest,
  type Sampling,
  type ScoredToken,
} from './request.js';
import { pagesOf, type Running, sharedPages, Text } from './text.js';

export interface GenerationOptions {
  /** Tokens of all texts together that the cache has memory for. A request that does not fit now waits. */
  cacheTokens: number;
  /** Texts that are continued at once. */
  maxTexts: number;
  /** About how long a step may take while prompts are read. @defaultValue 100 */
  stepMs?: number | undefined;
}

/** Tokens of prompts in a step. Fewer would read the weights too often for what they compute. */
const LEAST_CHUNK = 32;
const GREATEST_CHUNK = 512;

/**
 * Continues several texts at once, each with an adapter of its own or none (continuous batching, Yu et al. 2022, "Orca"): a
 * step is one pass with the next token of every text, and a chunk of the prompts that are still to be read. Prompts are read
 * in chunks (Agrawal et al. 2023, arXiv:2308.16369) of about as many tokens as fit into `stepMs`, as measured.
 *
 * With the fused ops on a processor, the tokens of a request and their log-probabilities do not depend on what else is
 * generated.
 */
export class Generation {
  /** Bytes of the cache, and of the states of texts. */
  readonly sizeBytes: number;
  readonly #model: CachedDecoder;
  readonly #pages: Pages;
  readonly #cachePages: number;
  readonly #maxTexts: number;
  readonly #stepMs: number;
  /** Requests whose texts have no pages yet, the first to come first. */
  readonly #waiting: Running[] = [];
  readonly #texts: Text[] = [];
  /** Tokens in a step that takes about `stepMs`, while prompts are read. */
  #chunkTokens = LEAST_CHUNK;

  constructor(decoder: Decoder, { cacheTokens, maxTexts, stepMs = 100 }: GenerationOptions) {
    this.#cachePages = Math.ceil(cacheTokens / PAGE_TOKENS);
    this.#model = new CachedDecoder(decoder, this.#cachePages);
    this.#pages = new Pages(this.#cachePages);
    this.#maxTexts = maxTexts;
    this.#stepMs = stepMs;
    this.sizeBytes = cacheBytes(decoder, { tokens: cacheTokens, texts: maxTexts });
  }

  get hasWork(): boolean {
    return this.#texts.length + this.#waiting.length > 0;
  }

  /** Tokens that the next step reads at most. */
  get stepTokens(): number {
    const readsPrompts = this.#waiting.length > 0 || this.#texts.some(({ unread }) => unread > 1);
    return readsPrompts ? this.#texts.length + this.#chunkTokens : this.#texts.length;
  }

  /**
   * Takes a request; its events come from later calls of {@link step}.
   * @throws RangeError for a prompt that is empty, is longer than the model has learned positions for, or has an id that the
   *   model has not, and for more tokens or choices than can ever run at once
   */
  add(request: PromptRequest, listener: GenerationListener): GenerationHandle {
    const { promptIds, choices = 1 } = request;
    const { architecture, weights } = this.#model.decoder;
    const positions = weights.positions?.shape[0] ?? Number.POSITIVE_INFINITY;
    const unknown = promptIds.find((id) => id < 0 || id >= architecture.vocabSize);
    if (promptIds.length === 0) throw new RangeError('The prompt has no tokens.');
    if (unknown !== undefined)
      throw new RangeError(`The model has ${architecture.vocabSize} tokens, none with id ${unknown}.`);
    if (promptIds.length > positions) {
      throw new RangeError(`The prompt has ${promptIds.length} tokens; the model has ${positions} positions.`);
    }
    // The last position predicts one more token, which is not read again.
    const maxNewTokens = Math.min(request.maxNewTokens, positions - promptIds.length + 1);
    const stopIds = new Set(request.stopIds ?? architecture.eosTokenIds);
    const running: Running = { request, listener, maxNewTokens, stopIds, texts: [] };
    running.texts = Array.from({ length: choices }, (_, choice) => new Text(running, choice));
    if (choices > this.#maxTexts)
      throw new RangeError(`${choices} choices; at most ${this.#maxTexts} texts run at once.`);
    const needed = this.#needs(running);
    if (needed > this.#cachePages) {
      const has = `${this.#cachePages * PAGE_TOKENS} tokens`;
      throw new RangeError(`The request needs a cache for ${needed * PAGE_TOKENS} tokens; there is one for ${has}.`);
    }
    this.#waiting.push(running);
    return {
      cancel: (choice) => {
        for (const text of [...running.texts]) if (choice === undefined || text.choice === choice) this.#end(text);
      },
    };
  }

  /**
   * One pass: the next token of every text, and a chunk of the prompts. It ends a request whose numbers are not finite, and
   * all that take part if the engine fails.
   */
  step(): void {
    this.#admit();
    const turns = this.#turns();
    if (turns.length === 0) return;
    const start = performance.now();
    let results: Result[];
    try {
      results = this.#read(turns);
    } catch (error) {
      for (const { text } of turns) this.#fail(text.running, error as Error);
      return;
    }
    this.#measure(turns, performance.now() - start);
    for (const { text, span } of turns) text.cached += span.tokens;
    for (const result of results) if (!result.text.ended) this.#take(result);
  }

  /** Frees the cache and forgets all requests. */
  dispose(): void {
    this.#waiting.length = 0;
    for (const { states } of this.#texts) states.clear();
    this.#texts.length = 0;
    this.#model.dispose();
  }

  /** Pages that the choices of a request share. */
  #shared({ request: { promptIds, choices = 1 }, maxNewTokens }: Running): number {
    const { decoder } = this.#model;
    // A text that is read again from its start must not write into the pages of others.
    const isReadAgain = decoder.isReadAgain(promptIds.length, promptIds.length + maxNewTokens);
    return choices === 1 || isReadAgain ? 0 : sharedPages(promptIds.length);
  }

  #needs(running: Running): number {
    const shared = this.#shared(running);
    const own = pagesOf(running.request.promptIds.length, running.maxNewTokens) - shared;
    return shared + running.texts.length * own;
  }

  /** Gives pages to requests, in their order: a later one never passes an earlier one. */
  #admit(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const { texts, request, maxNewTokens } = next;
      if (this.#texts.length + texts.length > this.#maxTexts || this.#needs(next) > this.#pages.free) return;
      this.#waiting.shift();
      const shared = this.#pages.take(this.#shared(next));
      const own = pagesOf(request.promptIds.length, maxNewTokens) - shared.length;
      const [leader] = texts;
      for (const text of texts) {
        if (text !== leader) this.#pages.share(shared);
        text.pages = [...shared, ...this.#pages.take(own)];
        text.sharedTokens = shared.length * PAGE_TOKENS;
        text.waitsFor = text !== leader && shared.length > 0 ? leader! : null;
        this.#texts.push(text);
      }
    }
  }

  /** The tokens that each text reads in the next pass, those with the same adapter next to each other. */
  #turns(): GenerationTurn[] {
    for (const text of this.#texts) text.followLeader();
    const ready = this.#texts.filter(({ waitsFor }) => waitsFor === null);
    const prompts = ready.filter(({ unread }) => unread > 1);
    const single = ready.length - prompts.length;
    const counts = divided(
      this.#chunkTokens - single,
      prompts.map(({ readable }) => readable),
    );
    const tokensOf = new Map(prompts.map((text, i) => [text, counts[i]!]));
    const turns = ready.flatMap((text) => {
      const tokens = tokensOf.get(text) ?? 1;
      return tokens === 0 ? [] : [{ text, span: text.nextSpan(tokens) }];
    });
    const adapters = [...new Set(turns.map(({ span }) => span.adapter))];
    return adapters.flatMap((adapter) => turns.filter(({ span }) => span.adapter === adapter));
  }

  /** A step that was too long makes the next chunks shorter; one that was short, though it was full, longer. */
  #measure(turns: readonly GenerationTurn[], ms: number): void {
    const tokens = turns.reduce((sum, { span }) => sum + span.tokens, 0);
    if (tokens < LEAST_CHUNK || (ms < this.#stepMs && tokens < this.#chunkTokens)) return;
    const factor = Math.min(2, Math.max(0.5, this.#stepMs / ms));
    this.#chunkTokens = Math.min(GREATEST_CHUNK, Math.max(LEAST_CHUNK, Math.round(tokens * factor)));
  }

  #read(turns: readonly GenerationTurn[]): Result[] {
    const wanted = wantedOf(turns);
    const results: Result[] = [];
    // A pass computes at least one hidden state.
    const tokens = wanted.length === 0 ? Int32Array.of(0) : Int32Array.from(wanted, ({ token }) => token);
    this.#model.read(
      turns.map(({ span }) => span),
      tokens,
      (predictions) => results.push(...resultsOf(wanted, predictions)),
    );
    return results;
  }

  #take({ text, position, next, scored: score }: Result): void {
    const { running, choice } = text;
    if (next instanceof Error) {
      this.#fail(running, next);
      return;
    }
    if (position < text.promptTokens - 1) {
      text.promptScored = position + 1;
      running.listener({ kind: 'prompt-scored', position: position + 1, token: score! });
      return;
    }
    if (running.maxNewTokens > 0) {
      if (running.stopIds.has(next)) {
        this.#end(text);
        running.listener({ kind: 'ended', choice, reason: 'stop', ...(score === null ? {} : { stop: score }) });
        return;
      }
      try {
        text.add(next);
      } catch (error) {
        this.#fail(running, error as Error);
        return;
      }
      if (this.#model.decoder.isReadAgain(text.ids.length - 1, text.ids.length)) text.restart();
      running.listener({ kind: 'token', choice, id: next, scored: score });
    }
    if (text.ended || (text.produced < running.maxNewTokens && !text.isComplete)) return;
    this.#end(text);
    running.listener({ kind: 'ended', choice, reason: text.isComplete ? 'stop' : 'length' });
  }

  #fail(running: Running, error: Error): void {
    if (running.texts.length === 0) return;
    for (const text of [...running.texts]) this.#end(text);
    running.listener({ kind: 'failed', error });
  }

  /** Gives back what a text holds. */
  #end(text: Text): void {
    if (text.ended) return;
    text.ended = true;
    const { running } = text;
    running.texts = running.texts.filter((other) => other !== text);
    const waits = this.#waiting.indexOf(running);
    if (waits !== -1 && running.texts.length === 0) this.#waiting.splice(waits, 1);
    const place = this.#texts.indexOf(text);
    if (place === -1) return;
    this.#texts.splice(place, 1);
    text.passLead(running.texts);
    text.states.clear();
    this.#model.clear(this.#pages.giveBack(text.pages));
  }
}

/** The tokens that a text reads in a pass. */
interface GenerationTurn {
  text: Text;
  span: TokenSpan;
}

/** A token whose prediction is used. */
interface Wanted {
  text: Text;
  /** Its position in its text. */
  position: number;
  /** Its index in the stream of the pass. */
  token: number;
}

interface Result extends Wanted {
  /** The token chosen for the next position, or in the prompt that there; why there is none. */
  next: number | Error;
  scored: ScoredToken | null;
}

function wantedOf(turns: readonly GenerationTurn[]): Wanted[] {
  const wanted: Wanted[] = [];
  let first = 0;
  for (const { text, span } of turns) {
    for (let i = 0; i < span.tokens; i++) {
      const position = span.cached + i;
      if (text.wants(position)) wanted.push({ text, position, token: first + i });
    }
    first += span.tokens;
  }
  return wanted;
}

/** Tokens and their log-probabilities leave the device, logits do not. A fault of a constraint is that of its request alone. */
function resultsOf(wanted: readonly Wanted[], predictions: Predictions): Result[] {
  const choices = wanted.map(({ text, position }) => choiceOf(text, position));
  const asked = choices.flatMap((choice, index) => (choice instanceof Error ? [] : [{ index, choice }]));
  const chosen = predictions.choose(
    asked.map(({ index }) => index),
    asked.map(({ choice }) => choice),
  );
  const chosenAt = new Map(asked.map(({ index }, i) => [index, chosen[i]!]));
  return wanted.map((one, index) => {
    const choice = choices[index]!;
    return { ...one, ...(choice instanceof Error ? failed(choice) : resultOf(chosenAt.get(index) ?? null)) };
  });
}

function choiceOf(text: Text, position: number): TokenChoice | Error {
  try {
    return text.choiceAt(position);
  } catch (error) {
    return error as Error;
  }
}

/** A log-probability that is not finite is that of a token which the model rules out. */
function resultOf(chosen: ChosenToken | null): Pick<Result, 'next' | 'scored'> {
  if (chosen === null) return failed(new NotFiniteError());
  const { id, logprob, top } = chosen;
  if (logprob === null) return { next: id, scored: null };
  return Number.isFinite(logprob) ? { next: id, scored: { id, logprob, top } } : failed(new NotFiniteError());
}

const failed = (error: Error): Pick<Result, 'next' | 'scored'> => ({ next: error, scored: null });

/** Divides tokens among prompts: equal shares, and what is left to the first. At least {@link LEAST_CHUNK} for the first. */
function divided(tokens: number, unread: readonly number[]): number[] {
  let left = Math.max(LEAST_CHUNK, tokens);
  const share = Math.max(LEAST_CHUNK, Math.floor(left / unread.length));
  const counts = unread.map((most) => {
    const count = Math.min(most, share, left);
    left -= count;
    return count;
  });
  return counts.map((count, i) => {
    const more = Math.min(unread[i]! - count, left);
    left -= more;
    return count + more;
  });
}

/** Lends the pages of a cache. A page that several texts share is free when the last of them has given it back. */
class Pages {
  readonly #free: number[];
  readonly #holders: Uint32Array;

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, page) => count - 1 - page);
    this.#holders = new Uint32Array(count);
  }

  get free(): number {
    return this.#free.length;
  }

  /** Takes at most {@link free} pages. */
  take(count: number): number[] {
    const taken = this.#free.splice(this.#free.length - count, count);
    for (const page of taken) this.#holders[page] = 1;
    return taken;
  }

  share(pages: readonly number[]): void {
    for (const page of pages) this.#holders[page]! += 1;
  }

  /** @returns those that nobody holds any more */
  giveBack(pages: readonly number[]): number[] {
    const unheld = pages.filter((page) => --this.#holders[page]! === 0);
    this.#free.push(...unheld);
    return unheld;
  }
}

export interface GenerateOptions {
  maxNewTokens: number;
  /** @defaultValue the most probable token */
  sampling?: Sampling;
  /** A text ends when it produces one of these. @defaultValue the model's end-of-text tokens */
  stopIds?: readonly number[];
  /** The adapter of each prompt; null: the base alone. @defaultValue the base alone for all */
  adapters?: readonly (ModelAdapter | null)[];
}

/** Texts that are continued at once. */
const MOST_TEXTS = 16;

/**
 * Continues prompts, and returns when all are done. For a process that does nothing else meanwhile.
 * @param prompts token ids, none empty
 * @returns the new tokens of each prompt, without the stop token
 * @throws Error when the numbers of a text are not finite, or the engine fails
 */
export function generateTexts(decoder: Decoder, prompts: readonly Int32Array[], options: GenerateOptions): number[][] {
  const { maxNewTokens, sampling, stopIds, adapters } = options;
  const pages = prompts.map((ids) => pagesOf(ids.length, maxNewTokens)).sort((a, b) => b - a);
  const atOnce = pages.slice(0, MOST_TEXTS).reduce((sum, count) => sum + count, 0);
  const generation = new Generation(decoder, { cacheTokens: atOnce * PAGE_TOKENS, maxTexts: MOST_TEXTS, stepMs: 1000 });
  const texts = prompts.map((): number[] => []);
  let failure: Error | null = null;
  try {
    for (const [index, promptIds] of prompts.entries()) {
      const request = { promptIds, adapter: adapters?.[index] ?? null, maxNewTokens, sampling, stopIds };
      generation.add(request, (event) => {
        if (event.kind === 'token') texts[index]!.push(event.id);
        if (event.kind === 'failed') failure = event.error;
      });
    }
    while (generation.hasWork && failure === null) generation.step();
  } finally {
    generation.dispose();
  }
  if (failure !== null) throw failure;
  return texts;
}
