import { ProductError } from '@lorasmith/contracts';
import { ApiError, apiErrorOf } from './api-error.js';

export interface HttpTransportOptions {
  /** Address of the api, for example `http://127.0.0.1:8080`. A path in it is used as a prefix. */
  baseUrl: string;
  /** Sent as `Authorization: Bearer …`. */
  apiKey?: string | undefined;
  /** @defaultValue the global `fetch` */
  fetch?: typeof globalThis.fetch | undefined;
  /**
   * Time limit for an answer. Planning a job with a large dataset may take longer; the client then repeats the request.
   * @defaultValue 120000
   */
  timeoutMs?: number | undefined;
}

export interface HttpCall {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Relative to the root of the api, with encoded segments. */
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  headers?: Record<string, string>;
  body?: string | Blob | ReadableStream<Uint8Array>;
  signal?: AbortSignal | undefined;
  /** Null: no limit. */
  timeoutMs?: number | null;
  /** The time for which a repeatable call is retried after time-outs. @defaultValue 0 */
  retryTimeoutsForMs?: number;
  /** True if the call may be retried. @defaultValue true for a GET; others need an Idempotency-Key to be safe */
  repeatable?: boolean;
  /** True if one redirect is followed, without the API key on another origin. Not in a browser. @defaultValue false */
  followsRedirect?: boolean;
  /** Reads the error of an answer in another form. @defaultValue the form of this API */
  errorOf?: (response: Response) => Promise<ApiError>;
}

export interface HttpTransport {
  /** Scheme, host and port of the api. */
  readonly origin: string;
  /**
   * Resolves with the answer, its body unread, if the status is 2xx. The reader of the body must then observe `signal`.
   *
   * @throws ApiError with the code of the answer; ProductError `service_unavailable` when there was none, `timeout` when
   * it took too long; the reason of `signal` when that is aborted.
   */
  request(call: HttpCall): Promise<Response>;
  /** Calls `request` and reads the answer as JSON. */
  json<Answer>(call: HttpCall): Promise<Answer>;
}

const DEFAULT_TIMEOUT_MS = 120_000;
const REPEAT_DELAYS_MS = [200, 1000];
/** A time-out after at least this long is retried at once. */
const LONG_WAIT_MS = 5_000;
const REPEATED_STATUSES = new Set([502, 503, 504]);

/**
 * The HTTP layer of the client: addresses, the API key, time limits, errors and retries.
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
    const body = call.body === undefined ? {} : { body: call.body, duplex: 'half' };
    // A redirect could carry the key to another host.
    const redirect = call.followsRedirect ? 'manual' : 'error';
    try {
      const response = await fetch(url, { method: call.method, headers, redirect, signal, ...body } as RequestInit);
      const location = redirect === 'manual' ? redirectionOf(response, url) : null;
      if (location === null) return response;
      await response.body?.cancel();
      if (location.origin !== url.origin) headers.delete('authorization');
      return await fetch(location, { method: call.method, headers, redirect: 'error', signal });
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
    const retryTimeoutsUntil = repeatable ? performance.now() + (call.retryTimeoutsForMs ?? 0) : 0;
    for (;;) {
      const begin = performance.now();
      try {
        const response = await send(call, url);
        if (response.ok) return response;
        throw await (call.errorOf ?? apiErrorOf)(response);
      } catch (error) {
        call.signal?.throwIfAborted();
        const unanswered = isUnanswered(error) && performance.now() < retryTimeoutsUntil;
        // A proxy that answers 504 sooner may do so again at once, so that takes one of the delayed retries.
        if (unanswered && performance.now() - begin >= LONG_WAIT_MS) continue;
        const temporary =
          unanswered ||
          (error instanceof ProductError && REPEATED_STATUSES.has(error.status) && error.code !== 'timeout');
        const delayMs = temporary ? delays.shift() : undefined;
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

/** The target of a redirect; null for another answer. */
function redirectionOf({ status, headers }: Response, url: URL): URL | null {
  const location = headers.get('location');
  return [302, 307].includes(status) && location !== null ? new URL(location, url) : null;
}

/** True if there was no answer in time, or a proxy reported 504. A 504 of the api itself means that planning has ended. */
function isUnanswered(error: unknown): boolean {
  if (error instanceof ApiError) return error.status === 504 && error.requestId === null;
  return error instanceof ProductError && error.code === 'timeout';
}

/** Converts an error of `fetch` or of a body to one that names the host and the cause. */
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

/**
 * The chunks of a body. Leaving the loop or aborting `signal` closes the connection. The signal passed to `fetch` is not
 * enough: after the headers, Node 20 may garbage-collect the link between that signal and the body.
 *
 * @throws the reason of `signal`; errors of the connection
 */
export async function* bodyChunks(
  response: Response,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
    await reader.cancel().catch(() => {});
  }
}

/** The whole body as text. */
export async function bodyText(response: Response, signal?: AbortSignal): Promise<string> {
  const decoder = new TextDecoder();
  const texts: string[] = [];
  for await (const chunk of bodyChunks(response, signal)) texts.push(decoder.decode(chunk, { stream: true }));
  return texts.join('') + decoder.decode();
}

/** Resolves after `ms`. @throws the reason of `signal` as soon as it is aborted */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const abort = () => {
      end();
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      end();
      resolve();
    }, ms);
    signal?.addEventListener('abort', abort);
  });
}

/** Options of every call. */
export interface CallOptions {
  /** Ends the call, which then throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Converts chunks to the body of a request, with backpressure. Text is sent as UTF-8.
 * @param onProgress called with the number of bytes passed on so far
 */
export function countedStream(
  chunks: AsyncIterable<Uint8Array | string>,
  onProgress?: (sentBytes: number) => void,
): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let sentBytes = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (sentBytes > 0) onProgress?.(sentBytes);
      for (;;) {
        const { done, value } = await iterator.next();
        if (done) return controller.close();
        const bytes = typeof value === 'string' ? encoder.encode(value) : value;
        // After an empty chunk, the stream would not be pulled again.
        if (bytes.byteLength === 0) continue;
        sentBytes += bytes.byteLength;
        return controller.enqueue(bytes);
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
