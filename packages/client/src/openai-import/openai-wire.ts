import {
  isLabel,
  isPrintable,
  MAX_IMPORTED_JOBS,
  OPENAI_BASE_URL,
  ProductError,
  SOURCE_KEY_PATTERN,
} from '@lorasmith/contracts';
import { bodyChunks, type CallOptions, sleep } from '../http-transport.js';
import { retryDelayMs } from './retry-delay.js';
import {
  isRecord,
  isSourceId,
  notOpenai,
  type OpenaiSource,
  type SourceFile,
  type SourceJob,
  type SourceQuestion,
  sourceJobOf,
} from './source.js';

export interface OpenaiWireOptions {
  /** The address of the API. @defaultValue OpenAI's own */
  baseUrl?: string | undefined;
  apiKey?: string | undefined;
  /** @defaultValue the global `fetch` */
  fetch?: typeof globalThis.fetch | undefined;
  /** Waits before a call is repeated. @defaultValue a timer */
  wait?: ((ms: number, signal?: AbortSignal) => Promise<void>) | undefined;
}

const PAGE = 100;
const ATTEMPTS = 6;
const ANSWER_TIMEOUT_MS = 120_000;
/** A model may think for long. */
const CHAT_TIMEOUT_MS = 600_000;
/** An answer that is JSON: a page of jobs with long graders, or a chat. */
const MAX_JSON_BYTES = 16 * 2 ** 20;
/** Characters of an error of the other service that are repeated. */
const MAX_QUOTED = 300;
/** Limits, for docs/limits.md. */
export const openaiWireLimits = {
  attempts: { value: ATTEMPTS, unit: 'attempts', beyond: '503 `openai_unavailable`' },
  json: { value: MAX_JSON_BYTES, unit: 'bytes', beyond: '503 `openai_unavailable`' },
};

const TEMPORARY = new Set([408, 409, 425, 429, 500, 502, 503, 504, 529]);
/** Codes of a 429 that waiting does not end. */
const WITHOUT_CREDIT = new Set(['insufficient_quota', 'billing_hard_limit_reached', 'billing_not_active']);

interface WireCall {
  method: 'GET' | 'POST';
  path: string;
  body?: object;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

interface WireFault {
  code: string | null;
  message: string;
}

/**
 * OpenAI's API, or a service with its wire, as a place that jobs come from. The key is sent to this address alone: no redirection is
 * followed. It is in no message: what the service says is repeated without it.
 *
 * @throws ProductError `invalid_request` for an address or a key that cannot be one
 */
export class OpenaiWire implements OpenaiSource {
  readonly name: string;
  readonly answers = true;
  readonly #options: OpenaiWireOptions;
  readonly #headers: Record<string, string>;

  constructor(options: OpenaiWireOptions) {
    this.#options = options;
    this.name = addressOf(options.baseUrl ?? OPENAI_BASE_URL);
    const { apiKey } = options;
    if (apiKey !== undefined && !new RegExp(SOURCE_KEY_PATTERN).test(apiKey)) {
      const message = 'The key of the other service has blanks, or characters that no key has. Is it complete?';
      throw new ProductError('invalid_request', message, { param: 'api_key' });
    }
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  }

  async *jobs(call: CallOptions): AsyncGenerator<SourceJob> {
    let after: string | null = null;
    for (let count = 0; ; ) {
      const query: string = after === null ? '' : `&after=${encodeURIComponent(after)}`;
      const page = await this.#json({ path: `/fine_tuning/jobs?limit=${PAGE}${query}`, signal: call.signal });
      const { data, has_more: hasMore } = isRecord(page) ? page : {};
      if (!Array.isArray(data)) throw notOpenai(this.name, 'the list of fine-tuning jobs has no "data"');
      for (const one of data) {
        if (++count > MAX_IMPORTED_JOBS) {
          const message = `${this.name} has more than ${MAX_IMPORTED_JOBS} fine-tuning jobs. Name those that are wanted by their ids.`;
          throw new ProductError('invalid_request', message, { param: 'jobs' });
        }
        const job = sourceJobOf(one, this.name);
        after = job.id;
        yield job;
      }
      if (hasMore !== true || data.length === 0) return;
    }
  }

  async job(id: string, { signal }: CallOptions): Promise<SourceJob> {
    const what = `the fine-tuning job ${id}`;
    return sourceJobOf(
      await this.#json({ path: `/fine_tuning/jobs/${encodeURIComponent(id)}`, signal }, what),
      this.name,
    );
  }

  async file(id: string, { signal }: CallOptions): Promise<SourceFile> {
    const given = await this.#json({ path: `/files/${encodeURIComponent(id)}`, signal }, `the file ${id}`);
    if (!isRecord(given) || !isSourceId(given.id)) throw notOpenai(this.name, `the file ${id} has no id`);
    const { filename, bytes } = given;
    const isName = typeof filename === 'string' && isLabel(filename);
    return { id, name: isName ? filename : null, bytes: typeof bytes === 'number' && bytes >= 0 ? bytes : null };
  }

  async *content({ id, bytes: expected }: SourceFile, { signal }: CallOptions): AsyncGenerator<Uint8Array> {
    const path = `/files/${encodeURIComponent(id)}/content`;
    const response = await this.#answered(
      { method: 'GET', path, timeoutMs: ANSWER_TIMEOUT_MS, signal },
      `the file ${id}`,
    );
    let bytes = 0;
    try {
      for await (const chunk of bodyChunks(response, signal)) {
        bytes += chunk.byteLength;
        yield chunk;
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#unreachable(error);
    }
    if (expected !== null && bytes !== expected) {
      const message = `${this.name} sent ${bytes} bytes of the file ${id}, which has ${expected}. Import again.`;
      throw new ProductError('openai_unavailable', message);
    }
  }

  async answer({ model, messages, tools }: SourceQuestion, { signal }: CallOptions) {
    const body = { model, messages, temperature: 0, ...(tools === null ? {} : { tools }) };
    const call = { method: 'POST', path: '/chat/completions', body, timeoutMs: CHAT_TIMEOUT_MS, signal } as const;
    const response = await this.#answered(call, `the model ${model}`, [400, 422]);
    // One question may be too long, or against a policy. Others are asked.
    if (!response.ok) return null;
    const answer = await this.#body(response, signal);
    const choice: unknown = isRecord(answer) && Array.isArray(answer.choices) ? answer.choices[0] : undefined;
    const message = isRecord(choice) ? choice.message : undefined;
    if (!isRecord(message)) throw notOpenai(this.name, 'a chat has no message');
    return message;
  }

  /** @param what - The thing that a 404 means; undefined: the address itself is wrong then. */
  async #json({ path, signal }: Pick<WireCall, 'path' | 'signal'>, what?: string): Promise<unknown> {
    const call: WireCall = { method: 'GET', path, timeoutMs: ANSWER_TIMEOUT_MS, signal };
    return await this.#body(await this.#answered(call, what), signal);
  }

  async #body(response: Response, signal: AbortSignal | undefined): Promise<unknown> {
    const text = await this.#text(response, signal);
    try {
      return JSON.parse(text);
    } catch {
      throw notOpenai(this.name, 'the answer is not JSON');
    }
  }

  async #text(response: Response, signal: AbortSignal | undefined): Promise<string> {
    const decoder = new TextDecoder();
    const texts: string[] = [];
    let bytes = 0;
    try {
      for await (const chunk of bodyChunks(response, signal)) {
        bytes += chunk.byteLength;
        if (bytes > MAX_JSON_BYTES) throw notOpenai(this.name, `an answer has more than ${MAX_JSON_BYTES} bytes`);
        texts.push(decoder.decode(chunk, { stream: true }));
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#unreachable(error);
    }
    return texts.join('') + decoder.decode();
  }

  /**
   * The answer with status 2xx, after retries.
   * @param also - Further statuses that are answers.
   * @throws ProductError
   */
  async #answered(call: WireCall, what?: string, also: readonly number[] = []): Promise<Response> {
    const { wait = sleep } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const sent = await this.#sent(call);
      if (sent instanceof Response && (sent.ok || also.includes(sent.status))) return sent;
      const { error, isTemporary } = await this.#failure(sent, call, what);
      const delayMs = isTemporary && attempt < ATTEMPTS ? retryDelayMs(sent, attempt) : null;
      if (delayMs === null) throw error;
      await wait(delayMs, call.signal);
    }
  }

  /** The answer, or why there is none. @throws the reason of the signal */
  async #sent({ method, path, body, timeoutMs, signal }: WireCall): Promise<Response | ProductError> {
    const { fetch = globalThis.fetch } = this.#options;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    const init: RequestInit = {
      method,
      headers: { accept: 'application/json', ...this.#headers, ...(body === undefined ? {} : JSON_TYPE) },
      redirect: 'manual',
      signal: AbortSignal.any(signal === undefined ? [timeout.signal] : [timeout.signal, signal]),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    try {
      return await fetch(`${this.name}${path}`, init);
    } catch (error) {
      signal?.throwIfAborted();
      return this.#unreachable(timeout.signal.aborted ? timeout.signal.reason : error);
    } finally {
      clearTimeout(timer);
    }
  }

  async #failure(
    sent: Response | ProductError,
    { signal }: WireCall,
    what: string | undefined,
  ): Promise<{ error: ProductError; isTemporary: boolean }> {
    if (!(sent instanceof Response)) return { error: sent, isTemporary: true };
    const { status } = sent;
    const { code, message } = faultOf(await this.#text(sent, signal).catch(() => ''));
    signal?.throwIfAborted();
    const said = this.#quoted(message);
    const found = (error: ProductError, isTemporary = false) => ({ error, isTemporary });
    if (status === 401) return found(denied(`${this.name} refuses the key (401): it is wrong, or was revoked.`));
    if (status === 403) return found(denied(`${this.name} does not allow the key to do this (403).${said}`));
    if (status === 404 && what !== undefined) {
      return found(
        new ProductError(
          'openai_gone',
          `${this.name} no longer has ${what}: it was deleted, has expired or was retired.`,
        ),
      );
    }
    if (status === 429 && code !== null && WITHOUT_CREDIT.has(code)) {
      return found(
        unavailable(`${this.name} answers nothing more, since its account has no credit left (429).${said}`),
      );
    }
    if (status === 429) {
      const text = `${this.name} limits the rate of calls (429), for longer than an import waits.${said} Import again later: it continues.`;
      return found(unavailable(text), true);
    }
    if (status >= 300 && status < 400) {
      return found(unavailable(`${this.name} redirects to another address (${status}), to which the key is not sent.`));
    }
    if (TEMPORARY.has(status))
      return found(unavailable(`${this.name} fails (${status}), also when it is asked again.${said}`), true);
    return found(notOpenai(this.name, `it answered ${status}.${said}`.replace(/\.$/, '')));
  }

  #unreachable(error: unknown): ProductError {
    if (error instanceof ProductError) return error;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const { code, message } = cause as { code?: string; message?: string };
    // Without the cause itself, which could have the headers of the call.
    return unavailable(`No answer from ${this.name} (${this.#withoutKey(code ?? message ?? 'unknown cause')}).`);
  }

  /** The words of the service, for a message; '' if it says nothing. */
  #quoted(message: string): string {
    const text = this.#withoutKey(message).replaceAll(/\s+/g, ' ').trim();
    return text === '' || !isPrintable(text) ? '' : ` It says: ${text.slice(0, MAX_QUOTED)}`;
  }

  #withoutKey(text: string): string {
    const { apiKey } = this.#options;
    return apiKey === undefined ? text : text.replaceAll(apiKey, '[the key]');
  }
}

const JSON_TYPE = { 'content-type': 'application/json' };

function denied(message: string): ProductError {
  return new ProductError('openai_access_denied', message);
}

function unavailable(message: string): ProductError {
  return new ProductError('openai_unavailable', message);
}

/** The error of an answer, as OpenAI has it; without a message for any other text. */
function faultOf(text: string): WireFault {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    if (!isRecord(error)) return { code: null, message: '' };
    const { code, message } = error;
    return { code: typeof code === 'string' ? code : null, message: typeof message === 'string' ? message : '' };
  } catch {
    return { code: null, message: '' };
  }
}

/** The address without its last slash. @throws ProductError `invalid_request` */
export function addressOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isPlain = url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '';
  if (!isPlain || url.username !== '' || url.password !== '') {
    const message = `The address of the other service must be an http(s) URL without a user, a query and a fragment, as ${OPENAI_BASE_URL}.`;
    throw new ProductError('invalid_request', message, { param: 'base_url' });
  }
  return url.origin + url.pathname.replace(/\/+$/, '');
}
