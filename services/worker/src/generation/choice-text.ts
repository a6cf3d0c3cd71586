import type { FinishReason, GeneratedToken, GenerationChunk, TokenLogprob } from '@lorasmith/contracts';
import { TextStream, type Tokenizer } from '@lorasmith/model-folder';
import type { ScoredToken } from '@lorasmith/models';
import type { ChoiceOutput } from './choice-output.js';
import { type AnswerPart, type ChoiceCalls, startAtEnd } from './tool-calls.js';

export interface ChoiceTextOptions {
  choice: number;
  promptIds: Int32Array;
  tokenizer: Tokenizer;
  tokenTexts: TokenTexts;
  stop: readonly string[];
  /** Takes calls of tools out of the text; null: it has none. */
  calls: ChoiceCalls | null;
  onChunk: (piece: GenerationChunk) => void;
}

/** Tokens of a prompt in one chunk. */
const PROMPT_TOKENS_IN_CHUNK = 64;

/** Turns the tokens of one choice into the chunks of its text. */
export class ChoiceText implements ChoiceOutput {
  readonly #options: ChoiceTextOptions;
  readonly #stream: TextStream;
  readonly #stop: StopTexts;
  /** Tokens whose text is not sent yet. */
  #tokens: GeneratedToken[] = [];
  /** Characters of the text so far: those that were sent, and all that came. */
  #sentLength = 0;
  #length = 0;
  #echo: { stream: TextStream; text: string } | null = null;

  constructor(options: ChoiceTextOptions) {
    this.#options = options;
    this.#stream = new TextStream(options.tokenizer, options.promptIds);
    this.#stop = new StopTexts(options.stop);
  }

  /** Starts the text with that of the prompt, which has no log-probabilities. */
  echo(text: string): void {
    this.#send(text);
    this.#length = this.#sentLength;
  }

  /** Starts the text with the next token of the prompt. */
  promptToken(id: number, scored: ScoredToken | null, isText: boolean): void {
    this.#echo ??= { stream: new TextStream(this.#options.tokenizer, [], { skipSpecialTokens: false }), text: '' };
    this.#record(id, scored);
    const text = isText ? this.#echo.stream.push(id) : '';
    this.#echo.text += text;
    this.#length += lengthOf(text);
    if (this.#tokens.length >= PROMPT_TOKENS_IN_CHUNK) this.#sendEcho();
  }

  /** @returns true also if its only call ends the choice */
  push(id: number, scored: ScoredToken | null): boolean {
    this.#endEcho();
    if (scored !== null) this.#record(id, scored);
    const { calls } = this.#options;
    const chunk = this.#stream.push(id) + (calls?.tokens.get(id) ?? '');
    this.#length += lengthOf(chunk);
    const { text, stopped } = this.#stop.push(chunk);
    this.#send(text);
    const isOver = stopped || (calls?.isOne === true && calls.parser.calls > 0);
    if (isOver) this.#sendFinish('stop');
    return isOver;
  }

  finish(reason: FinishReason): void {
    this.#endEcho();
    const last = this.#stream.end();
    this.#length += lengthOf(last);
    const { text, stopped } = this.#stop.push(last);
    this.#send(stopped ? text : text + this.#stop.end(), !stopped);
    this.#sendFinish(stopped ? 'stop' : reason);
  }

  #record(id: number, scored: ScoredToken | null): void {
    const { tokenTexts } = this.#options;
    const top = scored?.top.map((one) => tokenTexts.logprobOf(one.id, one.logprob)) ?? [];
    this.#tokens.push({ ...tokenTexts.logprobOf(id, scored?.logprob ?? null), offset: this.#length, top });
  }

  #endEcho(): void {
    if (this.#echo === null) return;
    const last = this.#echo.stream.end();
    this.#echo.text += last;
    this.#length += lengthOf(last);
    this.#sendEcho();
    this.#echo = null;
  }

  #sendEcho(): void {
    const { text } = this.#echo!;
    this.#echo!.text = '';
    this.#send(text, true);
  }

  /** Sends text with the tokens that start in it, or with all tokens. */
  #send(text: string, withAllTokens = false): void {
    this.#sentLength += lengthOf(text);
    const tokens = this.#tokens.filter(({ offset }) => withAllTokens || offset < this.#sentLength);
    this.#tokens = this.#tokens.slice(tokens.length);
    const { calls } = this.#options;
    this.#sendParts(calls === null ? [{ kind: 'text', text }] : calls.parser.push(text), tokens);
  }

  /** @param tokens are sent with the first text */
  #sendParts(parts: readonly AnswerPart[], tokens: GeneratedToken[] = []): void {
    const { choice, onChunk } = this.#options;
    let unsent = tokens;
    for (const part of parts) {
      if (part.kind === 'call') onChunk({ type: 'call', choice, name: part.name, arguments: part.arguments });
      else if (part.text !== '' || unsent.length > 0) {
        onChunk({ type: 'text', choice, text: part.text, tokens: unsent });
        unsent = [];
      }
    }
    if (unsent.length > 0) onChunk({ type: 'text', choice, text: '', tokens: unsent });
  }

  #sendFinish(reason: FinishReason): void {
    const { choice, calls, onChunk } = this.#options;
    if (calls !== null) this.#sendParts(calls.parser.end());
    onChunk({ type: 'finish', choice, reason });
  }
}

/** The length in characters, as most languages count them: code points. */
function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length++;
  return length;
}

/** Looks for texts that end an answer, also where they are spread over several chunks. */
export class StopTexts {
  readonly #stops: readonly string[];
  /** Text that may be the start of a stop text. */
  #unsent = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** @returns the text that can be no part of a stop text, and whether one has come; the text before it is then all */
  push(chunk: string): { text: string; stopped: boolean } {
    const text = this.#unsent + chunk;
    // The first that is complete counts, however the text is divided into chunks; of two, the longer one.
    const [found] = this.#stops
      .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
      .filter(({ start }) => start !== -1)
      .sort((one, other) => one.start + one.length - (other.start + other.length) || one.start - other.start);
    if (found !== undefined) {
      this.#unsent = '';
      return { text: text.slice(0, found.start), stopped: true };
    }
    const kept = Math.max(0, ...this.#stops.map((stop) => startAtEnd(text, stop)));
    this.#unsent = text.slice(text.length - kept);
    return { text: text.slice(0, text.length - kept), stopped: false };
  }

  /** The text that was not returned yet, once no more comes. */
  end(): string {
    return this.#unsent;
  }
}

/** The log-probability that the OpenAI API reports for an impossible token. */
export const IMPOSSIBLE = -9999;

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
