import { createHash } from 'node:crypto';
import { askedDelayMs } from '@lorasmith/client/openai-import';
import {
  askedGraderOf,
  type ChatCompletionRequest,
  type GradingBody,
  type JobRequest,
  type Judge,
  type JudgedItem,
  type Owner,
  ProductError,
} from '@lorasmith/contracts';
import { scoreReader } from '@lorasmith/graders';
import type { GenerationClient, PendingGrading } from '@lorasmith/queue';
import { type Caller, EVERYTHING, linkSignals } from '@lorasmith/service-kit';
import { boundedTextOf } from '../bounded-text.js';
import { type GenerationLimits, requestOfChat } from '../openai/generation-request.js';
import type { ModelDirectory } from '../openai/model-directory.js';
import type { Answered, GraderClient } from './grading-sender.js';
import { TRY_AGAIN } from './webhook-client.js';

export interface JudgeConfig {
  /** Base addresses of servers with the OpenAI API that may be asked, without a slash at their end. */
  servers: readonly string[];
  /** Sent to these servers; null: none is. */
  apiKey: string | null;
}

export interface JudgesOptions {
  config: JudgeConfig;
  /** The models of this service. */
  models: Pick<ModelDirectory, 'resolve'>;
  generation: Pick<GenerationClient, 'ask'>;
  limits: GenerationLimits;
}

/** Tokens of what a model of this service says about an answer. */
const MAX_TOKENS = 512;
/** Bytes of what a server answers. */
const MAX_ANSWER_BYTES = 2 ** 18;
/** A server that wants to be asked again later than this is asked then all the same. */
const MAX_RETRY_AFTER_MS = 60_000;
/** Scores in memory, so that an answer is asked for once, although another of its request failed. */
const MAX_KEPT = 10_000;
/** Characters that an error quotes of what a model has said. */
const QUOTED_CHARACTERS = 100;
/** Limits, for docs/limits.md. */
export const judgeLimits = {
  answer: { value: MAX_ANSWER_BYTES, unit: 'bytes', beyond: '`grader_failed`' },
  tokens: { value: MAX_TOKENS, unit: 'tokens of a model of this service', beyond: 'what it says is cut' },
};

/** The text that a model has written of an answer. */
interface Said {
  kind: 'said';
  text: string;
  /** Read and written. */
  tokens: number;
}
type Unsaid = Exclude<Answered, { kind: 'graded' }>;
type Scored = { kind: 'scored'; score: number; tokens: number };

/** Has models score answers: those of servers that the operator has named, and those of this service. */
export class Judges implements GraderClient<Judge> {
  readonly named = 'The model that scores answers';
  readonly #options: JudgesOptions;
  readonly #kept = new Map<string, number>();
  /** Servers and models that take no temperature. */
  readonly #fixedTemperature = new Set<string>();

  constructor(options: JudgesOptions) {
    this.#options = options;
  }

  /**
   * Checks the judge of a job, where it has one.
   * @throws ProductError `invalid_job` for a server that may not be asked, or a model that this service has not
   */
  async check({ objective }: Pick<JobRequest, 'objective'>, caller: Caller): Promise<void> {
    const judge = objective?.grader === undefined ? null : askedGraderOf(objective.grader);
    if (judge?.kind !== 'judge') return;
    if (judge.url !== null) {
      if (this.#mayAsk(judge.url)) return;
      const { servers } = this.#options.config;
      const allowed = servers.length === 0 ? 'none' : servers.join(', ');
      const message = `This service asks no model at ${judge.url}: its operator has to name the address in JUDGE_SERVERS, which has ${allowed}.`;
      throw new ProductError('invalid_job', message, { param: 'objective.grader.url' });
    }
    await this.#options.models.resolve(judge.model, caller).catch((error: unknown) => {
      if (!(error instanceof ProductError) || error.status >= 500) throw error;
      throw new ProductError('invalid_job', error.message, { param: 'objective.grader.model', cause: error });
    });
  }

  async ask({ owner, grader, body }: PendingGrading & { grader: Judge }, signal: AbortSignal): Promise<Answered> {
    const items = (JSON.parse(body) as Omit<GradingBody, 'data'> & { data: { items: JudgedItem[] } }).data.items;
    const read = scoreReader(grader);
    const scored = await Promise.all(
      items.map(async ({ line, message }): Promise<Scored | Unsaid> => {
        const key = createHash('sha256')
          .update(JSON.stringify([grader, message]))
          .digest('base64');
        const known = this.#kept.get(key);
        if (known !== undefined) return { kind: 'scored', score: known, tokens: 0 };
        const said = await this.#say(grader, message, owner, signal);
        if (said.kind !== 'said') return said;
        const score = read(said.text);
        if (score === null) return { kind: 'try-again', why: withoutScore(grader, said.text, line) };
        this.#keep(key, score);
        return { kind: 'scored', score, tokens: said.tokens };
      }),
    );
    const failed = (kind: Unsaid['kind']) => scored.find((one): one is Unsaid => one.kind === kind);
    const failure = failed('wrong') ?? failed('try-again');
    if (failure !== undefined) return failure;
    const all = scored as Scored[];
    return {
      kind: 'graded',
      rewards: all.map(({ score }) => score),
      judgeTokens: all.reduce((sum, { tokens }) => sum + tokens, 0),
    };
  }

  #mayAsk(url: string): boolean {
    return this.#options.config.servers.includes(withoutLastSlash(url));
  }

  #keep(key: string, score: number): void {
    this.#kept.set(key, score);
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
  }

  async #say(judge: Judge, message: string, owner: Owner, signal: AbortSignal): Promise<Said | Unsaid> {
    const timeout = AbortSignal.timeout(judge.timeoutSeconds * 1_000);
    const { signal: either, unlink } = linkSignals([signal, timeout]);
    try {
      return judge.url === null
        ? await this.#ofOwnModel(judge, message, owner, either)
        : await this.#ofServer(judge.url, judge.model, message, either);
    } catch (error) {
      const why = timeout.aborted
        ? `there was no answer within ${judge.timeoutSeconds} s.`
        : `it could not be asked: ${reasonOf(error)}`;
      const isFinal = error instanceof ProductError && error.status < 500 && !TRY_AGAIN.has(error.status);
      return { kind: isFinal && !timeout.aborted ? 'wrong' : 'try-again', why };
    } finally {
      unlink();
    }
  }

  async #ofOwnModel(
    { model, timeoutSeconds }: Judge,
    message: string,
    owner: Owner,
    signal: AbortSignal,
  ): Promise<Said> {
    const { models, generation, limits } = this.#options;
    const caller: Caller = owner === null ? EVERYTHING : { sees: 'own', owner };
    const chat: ChatCompletionRequest = {
      ...{ model, messages: [{ role: 'user', content: message }], temperature: 0 },
      max_completion_tokens: Math.min(MAX_TOKENS, limits.maxTokens),
    };
    const request = requestOfChat(chat, await models.resolve(model, caller), limits);
    const said: Said = { kind: 'said', text: '', tokens: 0 };
    for await (const chunk of generation.ask(request, { waitMs: timeoutSeconds * 1_000, signal })) {
      if (chunk.type === 'text') said.text += chunk.text;
      if (chunk.type === 'failed') throw new ProductError(chunk.failure.code, chunk.failure.message);
      if (chunk.type === 'end') said.tokens = chunk.prompt_tokens + chunk.completion_tokens;
    }
    signal.throwIfAborted();
    return said;
  }

  async #ofServer(url: string, model: string, message: string, signal: AbortSignal): Promise<Said | Unsaid> {
    // The operator may have taken it from the list since the job was sent.
    if (!this.#mayAsk(url)) return { kind: 'wrong', why: `${url} is no longer among JUDGE_SERVERS.` };
    const place = `${url} ${model}`;
    const send = async () => {
      const settings = this.#fixedTemperature.has(place) ? {} : { temperature: 0 };
      const response = await fetch(`${withoutLastSlash(url)}/chat/completions`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(this.#options.config.apiKey !== null && { authorization: `Bearer ${this.#options.config.apiKey}` }),
        },
        body: JSON.stringify({ model, messages: [{ role: 'user', content: message }], ...settings }),
        redirect: 'error',
        signal,
      });
      return { response, text: await boundedTextOf(response, MAX_ANSWER_BYTES) };
    };
    let { response, text } = await send();
    if (response.status === 400 && text.includes('temperature') && !this.#fixedTemperature.has(place)) {
      this.#fixedTemperature.add(place);
      ({ response, text } = await send());
    }
    const { status, headers } = response;
    if (response.ok) return saidIn(text);
    if (status >= 500 || TRY_AGAIN.has(status))
      return { kind: 'try-again', why: `it answered ${status}.`, afterMs: waitOf(headers) };
    const isKey = status === 401 || status === 403;
    const advice = isKey
      ? ', so it does not take the key of this service (JUDGE_API_KEY)'
      : status === 404
        ? `, so it has no model ${model}, or another address`
        : '';
    return { kind: 'wrong', why: `it answered ${status}${advice}.` };
  }
}

/** The address in the one form in which the server of a job is looked for among those of the operator. */
export function withoutLastSlash(url: string): string {
  return url.replace(/\/+$/, '');
}

function withoutScore({ range: [least, highest] }: Judge, said: string, line: number): string {
  const quoted = JSON.stringify(said.trim().slice(0, QUOTED_CHARACTERS));
  return `of the answer to line ${line} it said ${quoted}, which has no score from ${least} to ${highest}. Ask for a number alone, or set pattern and range.`;
}

/** The text of a model, in the answer of a server of the form of the OpenAI API. */
function saidIn(text: string): Said | Unsaid {
  const wrong: Unsaid = { kind: 'wrong', why: 'its answer is not of the form of the OpenAI API.' };
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return wrong;
  }
  const { choices, usage } = (answer ?? {}) as { choices?: unknown; usage?: { total_tokens?: unknown } | null };
  const content = Array.isArray(choices) ? choices[0]?.message?.content : undefined;
  // Null where the model refuses, or has only thought.
  if (content !== null && typeof content !== 'string') return wrong;
  const tokens = usage?.total_tokens;
  return { kind: 'said', text: content ?? '', tokens: Number.isSafeInteger(tokens) ? (tokens as number) : 0 };
}

/** The wait that a server asks for, within bounds; undefined: it asks for none. */
function waitOf(headers: Headers): number | undefined {
  const asked = askedDelayMs(headers);
  return asked === null ? undefined : Math.min(asked, MAX_RETRY_AFTER_MS);
}

/** The reason of an error. That of a connection is in its cause. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  const { code } = (cause ?? {}) as { code?: string };
  return code === undefined ? message : `${message} (${code}).`;
}
