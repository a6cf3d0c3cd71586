import { ProductError } from '@lorasmith/contracts';
import { ApiError, apiErrorOf } from './api-error.js';
import { bodyText } from './response-body.js';
import { sleep } from './sleep.js';

export interface HttpTransportOptions {
  /** Address of the api, for instance `http://127.0.0.1:8080`. A path in it is kept as a prefix. */
  baseUrl: string;
  /** Sent as `Authorization: Bearer …`. */
  apiKey?: string | undefined;
  /** @defaultValue the global `fetch` */
  fetch?: typeof globalThis.fetch | undefined;
  /**
   * How long a call may take until its answer is there. Planning a job, which may take longer for a large dataset, is asked
   * for again and again. @defaultValue 120000
   */
  timeoutMs?: number | undefined;
}

export interface HttpCall {
  method: 'GET' | 'POST' | 'DELETE';
  /** From the root of the api, its segments already encoded. */
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  headers?: Record<string, string>;
  body?: string | Blob | ReadableStream<Uint8Array>;
  signal?: AbortSignal | undefined;
  /** Null: no limit of ours. */
  timeoutMs?: number | null;
  /** For so long a repeatable call is made again where no answer came within the time limit. @defaultValue 0 */
  patienceMs?: number;
  /** Whether the call may be made again when no answer came: true for a GET, or where an Idempotency-Key makes it safe. */
  repeatable?: boolean;
}

export interface HttpTransport {
  /** Scheme, host and port of the api. */
  readonly origin: string;
  /**
   * Resolves with the answer, its body unread, if the status is below 400. From then on it is for the reader of the body
   * to heed `signal`.
   *
   * @throws ApiError with the code of the answer; ProductError `service_unavailable` when none came, `timeout` when it
   * took too long; the reason of `signal` when that is aborted.
   */
  request(call: HttpCall): Promise<Response>;
  /** The same, and reads the answer as JSON. */
  json<Answer>(call: HttpCall): Promise<Answer>;
}

const DEFAULT_TIMEOUT_MS = 120_000;
const REPEAT_DELAYS_MS = [200, 1000];
/** A call of which no answer came has been waited for when it took so long. */
const WAITED_MS = 5_000;
const REPEATED_STATUSES = new Set([502, 503, 504]);

/**
 * The HTTP of the client: addresses, the key, time limits, errors, and repetition of what may be repeated.
 *
 * @throws ProductError `invalid_request` when the address is not http or https
 */
export function createHttpTransport(options: HttpTransportOptions): HttpTransport {
  const { apiKey, fetch = globalThis.fetch, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const base = baseOf(options.baseUrl);

  async function send(call: HttpCall, url: URL): Promise<Response> {
    const timeout = new AbortController();
    const signal = AbortSignal.any(call.signal === undefined ? [timeout.signal] : [timeout.signal, call.signal]);
    const limitMs = call.timeoutMs === undefined ? timeoutMs : call.timeoutMs;
    const timer =
      limitMs === null
        ? undefined
        : setTimeout(
            () => timeout.abort(new ProductError('timeout', `No answer from ${url.origin} within ${limitMs} ms.`)),
            limitMs,
          );
    const headers = new Headers(call.headers);
    if (apiKey !== undefined) headers.set('authorization', `Bearer ${apiKey}`);
    try {
      return await fetch(url, {
        method: call.method,
        headers,
        // A redirect could carry the key to another host.
        redirect: 'error',
        signal,
        ...(call.body === undefined ? {} : { body: call.body, duplex: 'half' }),
      } as RequestInit);
    } catch (error) {
      signal.throwIfAborted();
      throw unreachable(url.origin, error);
    } finally {
      clearTimeout(timer);
    }
  }

  async function request(call: HttpCall): Promise<Response> {
    const url = new URL(base + call.path);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const repeatable = call.repeatable ?? call.method === 'GET';
    const delays = repeatable ? [...REPEAT_DELAYS_MS] : [];
    const patientUntil = repeatable ? performance.now() + (call.patienceMs ?? 0) : 0;
    for (;;) {
      const begin = performance.now();
      try {
        const response = await send(call, url);
        if (response.ok) return response;
        throw await apiErrorOf(response);
      } catch (error) {
        call.signal?.throwIfAborted();
        const unanswered = isUnanswered(error) && performance.now() < patientUntil;
        // What was waited for is asked for again at once; who says 504 sooner may go on saying so.
        if (unanswered && performance.now() - begin >= WAITED_MS) continue;
        const passing =
          unanswered ||
          (error instanceof ProductError && REPEATED_STATUSES.has(error.status) && error.code !== 'timeout');
        const delayMs = passing ? delays.shift() : undefined;
        if (delayMs === undefined) throw error;
        await sleep(delayMs, call.signal);
      }
    }
  }

  async function json<Answer>(call: HttpCall): Promise<Answer> {
    const response = await request({ ...call, headers: { accept: 'application/json', ...call.headers } });
    const text = await bodyText(response, call.signal).catch((error: unknown) => {
      call.signal?.throwIfAborted();
      throw unreachable(new URL(base).origin, error);
    });
    if (text === '') return undefined as Answer;
    try {
      return JSON.parse(text) as Answer;
    } catch (cause) {
      throw new ProductError(
        'service_unavailable',
        `${response.url} did not answer in JSON; is it the right address?`,
        {
          cause,
        },
      );
    }
  }

  return { origin: new URL(base).origin, request, json };
}

/** Whether nobody answered in time, or a proxy said so of the api; the api itself says it of planning that it has ended. */
function isUnanswered(error: unknown): boolean {
  if (error instanceof ApiError) return error.status === 504 && error.requestId === null;
  return error instanceof ProductError && error.code === 'timeout';
}

/** What `fetch` or a body threw, as an error that names the host and the cause. */
export function unreachable(origin: string, error: unknown): ProductError {
  if (error instanceof ProductError) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, message } = cause as { code?: string; message?: string };
  return new ProductError(
    'service_unavailable',
    `No answer from ${origin} (${code ?? message ?? 'unknown cause'}); is the stack running?`,
    { cause: error },
  );
}

function baseOf(baseUrl: string): string {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new ProductError('invalid_request', `The address of the api must be an http(s) URL, not "${baseUrl}".`, {
      param: 'baseUrl',
    });
  }
  return url.origin + url.pathname.replace(/\/+$/, '');
}
