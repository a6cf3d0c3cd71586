import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import {
  bodyTooLarge,
  type ErrorBody,
  type ErrorCode,
  type Fault,
  ProductError,
  publicText,
} from '@lorasmith/contracts';
import type { ErrorObject } from 'ajv';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from './caller.js';
import { validationFaults } from './request-validation.js';

declare module 'fastify' {
  interface FastifyInstance {
    refusals: RefusalLog;
  }
}

/** Properties that Fastify and its plugins add to their errors. */
interface FrameworkError extends Error {
  code?: string;
  statusCode?: number;
  validation?: ErrorObject[];
}

/** Default; an error can have its own value. */
const RETRY_AFTER_SECONDS: Partial<Record<number, number>> = { 429: 30, 503: 2 };

/** The form of an error in an answer. */
export interface ErrorForm {
  statusOf(error: ProductError): number;
  bodyOf(error: ProductError, requestId: string): object;
}

/** The only place that turns an error into HTTP. */
export function createErrorHandler({ statusOf, bodyOf }: ErrorForm) {
  return (thrown: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const error = productErrorOf(thrown, request);
    logError(error, thrown, request);
    sendError(error, { status: statusOf(error), body: bodyOf(error, request.id) }, request, reply);
  };
}

export const answerError = createErrorHandler({ statusOf: ({ status }) => status, bodyOf: errorBody });

/** Logs an error once, with the request that it ended; of many of a kind, only their number. */
export function logError(error: ProductError, thrown: unknown, request: FastifyRequest): void {
  // Without a caller, it was refused before its key was known.
  const { caller } = request as FastifyRequest & { caller?: Caller };
  if (!request.server.refusals.count(error.code, caller?.owner ?? null)) return;
  const where = { method: request.method, url: request.url, status: error.status, code: error.code };
  const { message } = publicText(error);
  if (error.status >= 500) request.log.error({ ...where, err: thrown }, message);
  else request.log.info(where, message);
}

function sendError(
  error: ProductError,
  { status, body }: { status: number; body: object },
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  // The status is sent already. Closing the connection shows the client that the answer is incomplete.
  if (reply.raw.headersSent) {
    reply.raw.destroy();
    return;
  }
  const retryAfterSeconds = error.retryAfterSeconds ?? RETRY_AFTER_SECONDS[error.status];
  if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds));
  // RFC 6750, section 3.
  if (error.status === 401) reply.header('www-authenticate', 'Bearer');
  reply.code(status).header('x-request-id', request.id).type('application/json; charset=utf-8').send(body);
}

export function answerExpectation(_request: IncomingMessage, response: ServerResponse): void {
  const message = 'The only supported value of the header expect is 100-continue.';
  const body = JSON.stringify(errorBody(new ProductError('invalid_request', message), null));
  response.writeHead(417, { 'content-type': 'application/json; charset=utf-8', connection: 'close' }).end(body);
}

/** Answers on the socket if the received bytes are not an HTTP request, or arrived too slowly. */
export function answerBrokenHttp(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, code, message] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ([REQUEST_TIMEOUT, 'timeout', 'The request did not arrive in time.'] as const)
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? (['431 Request Header Fields Too Large', 'invalid_request', 'The headers are too large.'] as const)
        : (['400 Bad Request', 'invalid_request', 'This is not an HTTP request.'] as const);
  socket.end(rawAnswer(status, new ProductError(code, message)));
}

/** Answers on the socket of a request whose body stopped arriving, and closes it. */
export function answerStalled(socket: Socket, stallMs: number): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const message = `Nothing of the body arrived for ${stallMs / 1000} s. Send the request again.`;
  // Its sender may never close its side.
  socket.end(rawAnswer(REQUEST_TIMEOUT, new ProductError('timeout', message)), () => socket.destroy());
}

const REQUEST_TIMEOUT = '408 Request Timeout';

function rawAnswer(status: string, error: ProductError): string {
  const body = JSON.stringify(errorBody(error, null));
  return (
    `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

/** Turns any thrown value into the error of the answer. */
export function productErrorOf(thrown: unknown, request: FastifyRequest): ProductError {
  if (thrown instanceof ProductError) return thrown;
  if (!(thrown instanceof Error)) return internalError(thrown);
  const error: FrameworkError = thrown;
  if (Array.isArray(error.validation)) return invalidRequest(error.validation);
  if (isOutOfFiles(error)) return refusal('service_unavailable', OUT_OF_FILES, error);
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return bodyTooLarge(request.routeOptions.bodyLimit, 'body');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return refusal('unsupported_media_type', takenTypes(request), error);
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return refusal('not_found', 'There is nothing at this path.', error);
    default:
  }
  const code = typeof error.statusCode === 'number' ? CODE_OF_STATUS[error.statusCode] : undefined;
  if (code !== undefined) return refusal(code, `${error.message}.`.replace(/\.\.$/, '.'), error);
  if (typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500) {
    return refusal('invalid_request', `${error.message}.`.replace(/\.\.$/, '.'), error);
  }
  return internalError(error);
}

export function errorBody(error: ProductError, requestId: string | null): ErrorBody {
  const { message, param = null } = publicText(error);
  return { error: { code: error.code, message, param, request_id: requestId, details: error.details } };
}

/** One error for all faults of a request. */
export function invalidRequestError(faults: Fault[]): ProductError {
  const [first] = faults;
  const code = faults.every((fault) => fault.code === 'unknown_field') ? 'unknown_field' : 'invalid_request';
  const message = faults.length === 1 ? first!.message : `${faults.length} faults: ${summary(faults)}`;
  return new ProductError(code, message, { param: first?.param, details: faults });
}

const CODE_OF_STATUS: Partial<Record<number, ErrorCode>> = {
  404: 'not_found',
  405: 'method_not_allowed',
  406: 'unsupported_media_type',
  413: 'body_too_large',
  415: 'unsupported_media_type',
  416: 'range_not_satisfiable',
  429: 'too_many_requests',
  503: 'service_unavailable',
  504: 'timeout',
};

const BODY_TYPES = [
  ['application/json', 'JSON'],
  ['application/x-tar', 'a plain tar (tar -cf)'],
] as const;

/** Names the body types that the route accepts, from the parsers of its scope. */
function takenTypes({ server }: FastifyRequest): string {
  const taken = BODY_TYPES.filter(([type]) => server.hasContentTypeParser(type));
  const forms = taken.map(([type, what]) => `${what}, with the header content-type: ${type}`);
  return `This call takes ${forms.join(', or ') || 'no body'}.`;
}

const OUT_OF_FILES = 'The service has reached its limit of open files and connections. Try again in a moment.';

/** Checks the message too, because errors lose their code between threads. */
function isOutOfFiles(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return /\bE[MN]FILE\b/.test((error as FrameworkError).code ?? error.message) || isOutOfFiles(error.cause);
}

const SUMMARY_FAULTS = 3;

function summary(faults: Fault[]): string {
  const messages = faults.slice(0, SUMMARY_FAULTS).map(({ message }) => message);
  return `${messages.join(' ')}${faults.length > SUMMARY_FAULTS ? ' …' : ''}`;
}

function invalidRequest(errors: ErrorObject[]): ProductError {
  return invalidRequestError(validationFaults(errors));
}

function refusal(code: ErrorCode, message: string, cause: unknown): ProductError {
  return new ProductError(code, message, { cause });
}

/** Reveals no internals; the log has the cause under the id of the request. */
function internalError(cause: unknown): ProductError {
  const message = 'An internal error occurred. The service log has the details under this request_id.';
  return new ProductError('internal_error', message, { cause });
}

/** The lines of one code and sender within {@link WINDOW_MS}. Further ones are counted. */
const MAX_LINES = 50;
const WINDOW_MS = 60_000;
/** Limits, for docs/limits.md. */
export const refusalLogLimits = {
  lines: { value: MAX_LINES, unit: 'lines a minute', beyond: 'counted, in one line at the end of the minute' },
};

/**
 * Limits the lines about requests that fail: who sends wrong keys as fast as it can must not fill the disk. What is not
 * written is counted, in one line for each code and sender.
 */
export class RefusalLog {
  readonly #log: FastifyBaseLogger;
  readonly #seen = new Map<string, { code: ErrorCode; sender: string | null; count: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(log: FastifyBaseLogger) {
    this.#log = log;
  }

  /**
   * Counts a failed request.
   *
   * @param sender - the owner of its key; null: none, or it was refused before that was known
   * @returns true if a line is to be written for it
   */
  count(code: ErrorCode, sender: string | null): boolean {
    const kind = `${code} ${sender}`;
    const seen = this.#seen.get(kind) ?? { code, sender, count: 0 };
    seen.count += 1;
    this.#seen.set(kind, seen);
    this.#timer ??= setTimeout(() => this.close(), WINDOW_MS).unref();
    return seen.count <= MAX_LINES;
  }

  /** Writes the counts, and begins from zero. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { code, sender, count } of this.#seen.values()) {
      if (count <= MAX_LINES) continue;
      const further = { code, key: sender, count: count - MAX_LINES };
      this.#log.warn(further, `${count - MAX_LINES} further requests ended with ${code} within a minute`);
    }
    this.#seen.clear();
  }
}
