import { askedDelayMs } from '@lorasmith/client/openai-import';
import {
  type ChatCompletionRequest,
  type ErrorCode,
  JUDGE_SECONDS,
  type Judge,
  type Owner,
  type PairJudge,
  ProductError,
} from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/queue';
import { type Caller, callerOfOwner, linkSignals } from '@lorasmith/service-kit';
import { boundedTextOf } from '../bounded-text.js';
import { type GenerationLimits, requestOfChat } from '../openai/generation-request.js';
import type { ModelDirectory } from '../openai/model-directory.js';
import { ownAnswer } from './own-answer.js';

export interface JudgeConfig {
  /** Base addresses of servers with the OpenAI API that may be asked, without a slash at their end. */
  servers: readonly string[];
  /** Sent to these servers; null: none is. */
  apiKey: string | null;
}

export interface JudgeClientOptions {
  config: JudgeConfig;
  /** The models of this service. */
  models: Pick<ModelDirectory, 'resolve'>;
  generation: Pick<GenerationClient, 'ask'>;
  limits: GenerationLimits;
}

/** A model that is asked for its judgement. */
export type AskedModel = Pick<Judge, 'url' | 'model' | 'timeoutSeconds'>;

/** The judge of a comparison, with its defaults. */
export function askedJudgeOf({ url, model, timeout_seconds: seconds }: PairJudge): AskedModel {
  return { url: url ?? null, model, timeoutSeconds: seconds ?? JUDGE_SECONDS.usual };
}

/** Tokens of what a model of this service says. */
const MAX_TOKENS = 512;
/** Bytes of what a server answers. */
const MAX_ANSWER_BYTES = 2 ** 18;
/** A server that wants to be asked again later than this is asked then all the same. */
const MAX_RETRY_AFTER_MS = 60_000;
/** Statuses of a server that may do better the next time, besides those from 500 on. */
export const TRY_AGAIN: ReadonlySet<number> = new Set([408, 425, 429]);
/** Limits, for docs/limits.md. */
export const judgeLimits = {
  answer: { value: MAX_ANSWER_BYTES, unit: 'bytes', beyond: '`grader_failed`; of a comparison the row fails' },
  tokens: { value: MAX_TOKENS, unit: 'tokens of a model of this service', beyond: 'what it says is cut' },
};

/** The text of a judge. */
export interface Said {
  kind: 'said';
  text: string;
  /** Read and written. */
  tokens: number;
}
/** Why there is no text, in words that the owner of what is judged may read. */
export type Unsaid =
  /** It may do better the next time. `afterMs`: when it wants to be asked again. */
  { kind: 'try-again'; why: string; afterMs?: number | undefined } | { kind: 'wrong'; why: string };

/** Asks models for their judgement: those of servers that the operator has named, and those of this service. */
export class JudgeClient {
  readonly #options: JudgeClientOptions;
  /** Servers and models that take no temperature. */
  readonly #fixedTemperature = new Set<string>();

  constructor(options: JudgeClientOptions) {
    this.#options = options;
  }

  /**
   * Checks that a model may be asked.
   * @param at - The code of the error, and the field that has the judge
   * @throws ProductError with this code for a server that may not be asked, or a model that this service has not
   */
  async check(
    { url, model }: Pick<Judge, 'url' | 'model'>,
    caller: Caller,
    at: { code: ErrorCode; param: string },
  ): Promise<void> {
    if (url !== null) {
      if (this.#mayAsk(url)) return;
      const { servers } = this.#options.config;
      const allowed = servers.length === 0 ? 'none' : servers.join(', ');
      const message = `This service asks no model at ${url}: its operator has to name the address in JUDGE_SERVERS, which has ${allowed}.`;
      throw new ProductError(at.code, message, { param: `${at.param}.url` });
    }
    await this.#options.models.resolve(model, caller).catch((error: unknown) => {
      if (!(error instanceof ProductError) || error.status >= 500) throw error;
      throw new ProductError(at.code, error.message, { param: `${at.param}.model`, cause: error });
    });
  }

  /** Asks once. A judge of this service sees what the owner may see. */
  async say(judge: AskedModel, message: string, owner: Owner, signal: AbortSignal): Promise<Said | Unsaid> {
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

  #mayAsk(url: string): boolean {
    return this.#options.config.servers.includes(withoutLastSlash(url));
  }

  async #ofOwnModel(
    { model, timeoutSeconds }: AskedModel,
    message: string,
    owner: Owner,
    signal: AbortSignal,
  ): Promise<Said> {
    const { models, generation, limits } = this.#options;
    const chat: ChatCompletionRequest = {
      ...{ model, messages: [{ role: 'user', content: message }], temperature: 0 },
      max_completion_tokens: Math.min(MAX_TOKENS, limits.maxTokens),
    };
    const request = requestOfChat(chat, await models.resolve(model, callerOfOwner(owner)), limits);
    const { text, promptTokens, completionTokens } = await ownAnswer(generation, request, {
      waitMs: timeoutSeconds * 1_000,
      signal,
    });
    return { kind: 'said', text, tokens: promptTokens + completionTokens };
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
