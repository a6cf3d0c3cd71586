import { type ErrorBody, type ErrorCode, type Fault, ProductError, toldOf } from '@lorasmith/contracts';
import type { ErrorObject } from 'ajv';
import type { FastifyRequest } from 'fastify';
import { validationFaults } from './validation-faults.js';

/** What Fastify and its plugins add to the errors they throw. */
interface FrameworkError extends Error {
  code?: string;
  statusCode?: number;
  validation?: ErrorObject[];
}

/** The error a request is answered with, whatever was thrown. */
export function productErrorOf(thrown: unknown, request: FastifyRequest): ProductError {
  if (thrown instanceof ProductError) return thrown;
  if (!(thrown instanceof Error)) return internalError(thrown);
  const error: FrameworkError = thrown;
  if (Array.isArray(error.validation)) return invalidRequest(error.validation);
  if (isOutOfFiles(error)) return refusal('service_unavailable', OUT_OF_FILES, error);
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return refusal('body_too_large', 'The body is too large.', error);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return refusal('unsupported_media_type', takenTypes(request), error);
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return refusal('not_found', 'There is nothing at this path.', error);
  }
  const code = typeof error.statusCode === 'number' ? CODE_OF_STATUS[error.statusCode] : undefined;
  if (code !== undefined) return refusal(code, `${error.message}.`.replace(/\.\.$/, '.'), error);
  if (typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500) {
    return refusal('invalid_request', `${error.message}.`.replace(/\.\.$/, '.'), error);
  }
  return internalError(error);
}

/** The body that tells of the error. */
export function errorBody(error: ProductError, requestId: string | null): ErrorBody {
  const { message, param = null } = toldOf(error);
  return { error: { code: error.code, message, param, request_id: requestId, details: error.details } };
}

/** One error for everything that is wrong with a request. */
export function invalidRequestError(faults: Fault[]): ProductError {
  const [first] = faults;
  const code = faults.every((fault) => fault.code === 'unknown_field') ? 'unknown_field' : 'invalid_request';
  const message = faults.length === 1 ? first!.message : `${faults.length} things are wrong: ${summary(faults)}`;
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

/** What the call takes, known by the parsers of its scope. */
function takenTypes({ server }: FastifyRequest): string {
  const taken = BODY_TYPES.filter(([type]) => server.hasContentTypeParser(type));
  const said = taken.map(([type, what]) => `${what}, with the header content-type: ${type}`);
  return `This call takes ${said.join(', or ') || 'no body'}.`;
}

const OUT_OF_FILES = 'The service has as many files and connections open as it may. Try again in a moment.';

/** By its message, too: a code does not survive the way between threads. */
function isOutOfFiles(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return /\bE[MN]FILE\b/.test((error as FrameworkError).code ?? error.message) || isOutOfFiles(error.cause);
}

const SUMMARY_FAULTS = 3;

function summary(faults: Fault[]): string {
  const told = faults.slice(0, SUMMARY_FAULTS).map(({ message }) => message);
  return `${told.join(' ')}${faults.length > SUMMARY_FAULTS ? ' …' : ''}`;
}

function invalidRequest(errors: ErrorObject[]): ProductError {
  return invalidRequestError(validationFaults(errors));
}

function refusal(code: ErrorCode, message: string, cause: unknown): ProductError {
  return new ProductError(code, message, { cause });
}

/** Says nothing of the inside; the log has it, under the request's id. */
function internalError(cause: unknown): ProductError {
  const message = 'Something went wrong on our side. The log has more, under this request_id.';
  return new ProductError('internal_error', message, { cause });
}
