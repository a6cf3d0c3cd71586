import {
  type ErrorCode,
  type Fault,
  type OpenaiErrorBody,
  OpenaiErrorBody as OpenaiErrorSchema,
  type ProductError,
  publicText,
} from '@lorasmith/contracts';
import type { ErrorForm } from '@lorasmith/service-kit';
import { errorAnswersWith } from '../openapi/answers.js';

/** Codes that clients of the OpenAI API know under another name. */
const CODES: Partial<Record<ErrorCode, string>> = {
  unauthorized: 'invalid_api_key',
  adapter_not_found: 'model_not_found',
  too_many_requests: 'rate_limit_exceeded',
  quota_exceeded: 'rate_limit_exceeded',
};

/** Errors as the OpenAI API has them. It has one status for every fault of a request. */
export const openaiErrors: ErrorForm = {
  statusOf: ({ status }) => (status === 422 ? 400 : status),
  bodyOf: openaiErrorBody,
};

/** The body of an answer with an error. */
export function openaiErrorBody(error: ProductError): OpenaiErrorBody {
  const { param = null } = publicText(error);
  const type =
    error.status >= 500 ? 'server_error' : error.status === 429 ? 'rate_limit_error' : 'invalid_request_error';
  return { error: { message: messageOf(error), type, param, code: CODES[error.code] ?? error.code } };
}

/** More faults of a file would hide what the first ones say. */
const MAX_LINES_NAMED = 10;

/** The text of an error with its faults and their lines, because clients show only the message. */
function messageOf(error: ProductError): string {
  const { details } = error;
  const [first] = details;
  if (first === undefined) return publicText(error).message;
  if (first.line !== undefined) {
    const named = details.slice(0, MAX_LINES_NAMED).map(messageOfLine);
    const message = `${error.message} ${named.join(' ')}${more(details.length - named.length)}`;
    return publicText({ message, param: undefined }).message;
  }
  const message = first.code === 'unknown_field' ? `The field ${first.param} is not supported.` : first.message;
  return `${message}${more(details.length - 1)}`;
}

function messageOfLine({ line, dataset, param, message }: Fault): string {
  const where = `Line ${line}${dataset === undefined ? '' : ` of ${dataset}`}${param === undefined ? '' : `, ${param}`}`;
  return `${where}: ${message}`;
}

function more(count: number): string {
  if (count === 0) return '';
  return count === 1 ? ' There is one more fault.' : ` There are ${count} more faults.`;
}

/** The answers with errors that a call documents. */
export function openaiErrorAnswers<Status extends Parameters<typeof errorAnswersWith>[1][number]>(
  ...statuses: Status[]
) {
  return errorAnswersWith(OpenaiErrorSchema, statuses);
}
