import { pause } from '@lorasmith/concurrency';
import {
  COMPARED_CHARACTERS,
  type ComparedAnswer,
  type ComparedModel,
  type Comparison,
  type ComparisonRow,
  type ErrorCode,
  type GenerationRequest,
  ProductError,
  type RowVerdict,
} from '@lorasmith/contracts';
import type { AnswerPair, CompiledPairJudge, PlaceVerdict } from '@lorasmith/graders';
import { type AskedPrompt, type AskedRow, promptKey, textOfTurn, type UnaskedRow } from '@lorasmith/planning';
import { type GenerationClient, GRADING_DELAYS_MS } from '@lorasmith/queue';
import { askedJudgeOf, type JudgeClient } from '../judging/judge-client.js';
import { ownAnswer } from '../judging/own-answer.js';
import { outcomeOf } from './comparison-result.js';

/** The time that one request waits for a worker. It is sent again until the patience is over: workers may be busy with other base models. */
const ASK_WAIT_MS = 60_000;
const PATIENCE_MS = 30 * 60_000;
const AFTER_BUSY_MS = 5_000;
/** Characters of a message to a judge. */
const MAX_MESSAGE = 2 ** 17;
/** Characters that an error quotes of what a judge has said. */
const QUOTED_CHARACTERS = 100;
/** Limits, for docs/limits.md. */
export const rowComparisonLimits = {
  message: { value: MAX_MESSAGE, unit: 'characters', beyond: 'the row fails' },
  patience: { value: PATIENCE_MS / 60_000, unit: 'minutes', beyond: 'the comparison fails' },
};
/** Errors of an answer that concern its prompt alone. */
const OF_THE_ROW: readonly ErrorCode[] = ['context_length_exceeded', 'invalid_request', 'chat_template_failed'];
/** Errors that go away: no worker is free, or something cannot be reached. */
const TEMPORARY: readonly number[] = [503, 504];

/** The row has failed, and the others go on. */
class RowError extends Error {}

/** The stored answers of a side, by the keys of their prompts. */
export type StoredAnswers = ReadonlyMap<string, { text: string }>;

export interface RowComparisonOptions {
  comparison: Comparison;
  judge: CompiledPairJudge;
  judges: Pick<JudgeClient, 'say'>;
  generation: Pick<GenerationClient, 'ask'>;
  /** The stored answers of each side; null for one that is asked. */
  stored: readonly (StoredAnswers | null)[];
  /** Keeps what is there of a row. It is durable once the promise resolves. */
  keep(row: ComparisonRow): Promise<void>;
  /** The waits before a judge is asked again. @defaultValue {@link GRADING_DELAYS_MS} */
  delaysMs?: readonly number[];
  /** The time for which a busy service is asked again. @defaultValue 30 minutes */
  patienceMs?: number;
}

/** Answers the prompt of a row with both models, and has the judge compare them in both orders. */
export class RowComparison {
  readonly #options: RowComparisonOptions;

  constructor(options: RowComparisonOptions) {
    this.#options = options;
  }

  /**
   * Finishes a row. What an earlier process has kept of it is not asked again.
   * @throws ProductError why no further row can be compared; the reason of `signal`
   */
  async finish(asked: AskedRow | UnaskedRow, row: ComparisonRow, signal: AbortSignal): Promise<ComparisonRow> {
    try {
      if ('fault' in asked) throw new RowError(asked.fault);
      const given = { prompt: row.prompt, reference: referenceOf(asked.reference) };
      const fault = this.#options.judge.faultOf(given);
      if (fault !== null) throw new RowError(fault);
      await this.#answer(asked.prompt, row, signal);
      const [one, other] = row.answers;
      if (one!.text === other!.text) return { ...row, outcome: 'tie' };
      await this.#judge(given, row, signal);
      return { ...row, outcome: outcomeOf(row.verdicts) };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RowError)) throw error;
      return { ...row, outcome: 'failed', error: error.message };
    }
  }

  /** Fills in the answers that are missing. Both are open at once, so that adapters of one base model share its passes. */
  async #answer(prompt: AskedPrompt, row: ComparisonRow, signal: AbortSignal): Promise<void> {
    const { comparison, stored, keep } = this.#options;
    if (row.answers.every((answer) => answer !== null)) return;
    row.answers = await all(
      comparison.models.map(async (model, side) => {
        const found = row.answers[side];
        if (found != null) return found;
        const answers = stored[side] ?? null;
        return answers === null ? await this.#ask(model, prompt, signal) : storedAnswer(answers, model, prompt);
      }),
    );
    await keep(row);
  }

  async #ask(model: ComparedModel, prompt: AskedPrompt, signal: AbortSignal): Promise<ComparedAnswer> {
    const { generation, comparison, patienceMs = PATIENCE_MS } = this.#options;
    const request = requestOf(model, prompt, comparison);
    const deadline = performance.now() + patienceMs;
    for (;;) {
      try {
        const waitMs = Math.min(ASK_WAIT_MS, patienceMs);
        const { text, isCut, completionTokens } = await ownAnswer(generation, request, { waitMs, signal });
        return cutAnswer(text, { tokens: completionTokens, isCut });
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof ProductError)) throw error;
        if (OF_THE_ROW.includes(error.code)) throw new RowError(`${model.name} cannot answer: ${error.message}`);
        if (!TEMPORARY.includes(error.status) || performance.now() >= deadline) throw error;
        await pause(Math.min(AFTER_BUSY_MS, patienceMs), signal);
      }
    }
  }

  /** Fills in the verdicts that are missing, each with its order of the answers. */
  async #judge(given: Omit<AnswerPair, 'answers'>, row: ComparisonRow, signal: AbortSignal): Promise<void> {
    const [a, b] = row.answers.map((answer) => answer!.text) as [string, string];
    const ofOrder = async (order: 0 | 1): Promise<void> => {
      if (row.verdicts[order] != null) return;
      const answers = order === 0 ? ([a, b] as const) : ([b, a] as const);
      const { place, text, tokens } = await this.#verdictOf({ ...given, answers }, signal);
      const preferred = order === 0 ? 'a' : 'b';
      const other = order === 0 ? 'b' : 'a';
      const prefers: RowVerdict['prefers'] = place === 'tie' ? 'tie' : place === 'first' ? preferred : other;
      row.verdicts[order] = { prefers, text: text.slice(-COMPARED_CHARACTERS.verdict), tokens };
      await this.#options.keep(row);
    };
    await all([ofOrder(0), ofOrder(1)]);
  }

  /** Asks the judge until there is a verdict. */
  async #verdictOf(
    pair: AnswerPair,
    signal: AbortSignal,
  ): Promise<{ place: PlaceVerdict; text: string; tokens: number }> {
    const { comparison, judge, judges, delaysMs = GRADING_DELAYS_MS } = this.#options;
    const message = judge.messageOf(pair);
    if (message.length > MAX_MESSAGE) {
      throw new RowError(`The message to the judge has ${message.length} characters, and may have ${MAX_MESSAGE}.`);
    }
    const asked = askedJudgeOf(comparison.judge);
    let tokens = 0;
    for (let attempt = 0; ; attempt++) {
      const said = await judges.say(asked, message, comparison.owner, signal);
      signal.throwIfAborted();
      if (said.kind === 'wrong') throw judgeFailed(said.why);
      let why: string;
      if (said.kind === 'said') {
        tokens += said.tokens;
        const place = judge.verdictIn(said.text);
        if (place !== null) return { place, text: said.text.trim(), tokens };
        why = withoutVerdict(said.text);
      } else why = said.why;
      const delayMs = delaysMs[attempt];
      if (delayMs === undefined) throw new RowError(`The judge failed ${attempt + 1} times: ${why}`);
      await pause(Math.max(delayMs, said.kind === 'said' ? 0 : (said.afterMs ?? 0)), signal);
      signal.throwIfAborted();
    }
  }
}

/** The results of calls, once all of them have ended. @throws the first error */
async function all<Result>(calls: readonly Promise<Result>[]): Promise<Result[]> {
  const outcomes = await Promise.allSettled(calls);
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  });
}

/** A row of which nothing is known but its prompt. */
export function newRow(asked: AskedRow | UnaskedRow, number: number): ComparisonRow {
  const isAsked = 'prompt' in asked;
  const reference = isAsked ? referenceOf(asked.reference) : undefined;
  const text = reference === undefined || typeof reference === 'string' ? reference : JSON.stringify(reference);
  return {
    number,
    line: asked.line,
    prompt: isAsked ? promptText(asked.prompt) : '',
    reference: text?.slice(0, COMPARED_CHARACTERS.reference) ?? null,
    answers: [null, null],
    verdicts: [null, null],
    outcome: null,
    error: null,
  };
}

/** The turns of a prompt, of which the judge gets the end. */
function promptText({ messages }: AskedPrompt): string {
  const turns = messages.map((message) => `${message.role}: ${textOfTurn(message)}`);
  return turns.join('\n').slice(-COMPARED_CHARACTERS.prompt);
}

/** The part of the own answer of a row that a rubric may read. */
function referenceOf(reference: unknown): unknown {
  return typeof reference === 'string' ? reference.slice(0, COMPARED_CHARACTERS.reference) : reference;
}

function storedAnswer(answers: StoredAnswers, { name }: ComparedModel, prompt: AskedPrompt): ComparedAnswer {
  const found = answers.get(promptKey(prompt));
  if (found === undefined) throw new RowError(`${name} has no answer to this prompt.`);
  return cutAnswer(found.text, { tokens: 0, isCut: false });
}

function cutAnswer(text: string, { tokens, isCut }: { tokens: number; isCut: boolean }): ComparedAnswer {
  const kept = text.slice(0, COMPARED_CHARACTERS.answer);
  return { text: kept, tokens, is_cut: isCut || kept.length < text.length };
}

function requestOf(
  { base_model: base, adapter, completion_format: format }: ComparedModel,
  { messages, tools, plainText }: AskedPrompt,
  { max_tokens, temperature, seed }: Comparison,
): GenerationRequest {
  const isPlain = format === 'text' && plainText !== null;
  return {
    base_model: base!,
    adapter,
    input: isPlain
      ? { kind: 'text', prompts: [plainText], echo: false }
      : { kind: 'chat', messages, tools, must_call: null, one_call: false },
    schema: null,
    n: 1,
    max_tokens,
    temperature,
    top_p: 1,
    top_k: 0,
    min_p: 0,
    presence_penalty: 0,
    frequency_penalty: 0,
    repetition_penalty: 1,
    seed,
    stop: [],
    logprobs: null,
  };
}

/** The error of a comparison whose judge will fail for every row. */
export function judgeFailed(why: string): ProductError {
  return new ProductError('judge_failed', `The judge failed: ${why} Correct it, and compare again.`);
}

function withoutVerdict(said: string): string {
  const quoted = JSON.stringify(said.trim().slice(0, QUOTED_CHARACTERS));
  return `it said ${quoted}, which has no verdict A, B or tie. Use a larger model, or set pattern.`;
}
