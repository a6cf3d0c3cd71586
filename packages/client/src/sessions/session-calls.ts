import { ERRORS, type ErrorCode, ProductError } from '@lorasmith/contracts';
import { ApiError, sessionErrorOf } from '../api-error.js';
import { type HttpTransport, sleep } from '../http-transport.js';

/** The beginning of the paths of sessions, which are those of tinker's client. */
const PREFIX = '/tinker/api/v1';
const PROTOBUF = 'application/x-protobuf';
const DELAYS_MS = [500, 1_000, 2_000, 5_000, 10_000];
/** A service that restarts, or a proxy before it, is away for less. */
const PATIENCE_MS = 300_000;

/** The result of a call: of protobuf, or of JSON. */
export type CallResult = Uint8Array | Record<string, unknown>;

/** A body of JSON, or of protobuf. */
export type CallBody = object | Uint8Array;

/** True for a call that the service has answered, and will answer alike again. */
export function isRefusal(error: unknown): boolean {
  return error instanceof ApiError && error.status < 500 && error.status !== 408 && error.status !== 429;
}

/** The calls of a session. Each may be sent again without another effect, and is, until it is answered. */
export class SessionCalls {
  readonly #transport: HttpTransport;
  readonly #closing = new AbortController();

  constructor(transport: HttpTransport) {
    this.#transport = transport;
  }

  /** Ends all calls. */
  close(reason: ProductError): void {
    this.#closing.abort(reason);
  }

  /**
   * Sends a call.
   * @throws ApiError where it is refused; ProductError where it has no answer within five minutes
   */
  async post(path: string, body: CallBody = {}): Promise<CallResult> {
    const { signal } = this.#closing;
    const startMs = performance.now();
    const delays = [...DELAYS_MS];
    for (;;) {
      try {
        return await this.#once(path, body, signal);
      } catch (error) {
        signal.throwIfAborted();
        const isTemporary = error instanceof ProductError && !isRefusal(error);
        if (!isTemporary || performance.now() - startMs > PATIENCE_MS) throw error;
        await sleep(delays.length > 1 ? delays.shift()! : delays[0]!, signal);
      }
    }
  }

  /**
   * Sends a call once, without a result. For heartbeats, and for the last call of a session.
   * @throws as the transport
   */
  async postOnce(path: string, body: object = {}): Promise<void> {
    await this.#once(path, body);
  }

  /**
   * Waits for the result of a call.
   * @param id - as the service has named the result
   * @throws ProductError with the code of the failure; ApiError 410 where there is no such result, or no longer
   */
  async result(id: string): Promise<CallResult> {
    for (;;) {
      const result = await this.post('/retrieve_future', { request_id: id });
      if (result instanceof Uint8Array) return result;
      if (typeof result.error === 'string') throw new ProductError(codeOf(result), result.error);
      if (result.type !== 'try_again') return result;
    }
  }

  async #once(path: string, body: CallBody, signal?: AbortSignal): Promise<CallResult> {
    const isBytes = body instanceof Uint8Array;
    const response = await this.#transport.request({
      method: 'POST',
      path: PREFIX + path,
      headers: { 'content-type': isBytes ? PROTOBUF : 'application/json' },
      body: isBytes ? new Blob([body as Uint8Array<ArrayBuffer>]) : JSON.stringify(body),
      signal,
      errorOf: sessionErrorOf,
    });
    if (response.headers.get('content-type')?.startsWith(PROTOBUF)) return new Uint8Array(await response.arrayBuffer());
    const text = await response.text();
    return text === '' ? {} : JSON.parse(text);
  }
}

function codeOf({ code, category }: Record<string, unknown>): ErrorCode {
  if (typeof code === 'string' && code in ERRORS) return code as ErrorCode;
  return category === 'user' ? 'invalid_request' : 'internal_error';
}
