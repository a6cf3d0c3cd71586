import {
  type ErrorCode,
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

export function openaiErrorBody(error: ProductError): OpenaiErrorBody {
  const { param = null } = publicText(error);
  const type =
    error.status >= 500 ? 'server_error' : error.status === 429 ? 'rate_limit_error' : 'invalid_request_error';
  return { error: { message: messageOf(error), type, param, code: CODES[error.code] ?? error.code } };
}

/** The first fault that was found, and how many more there are; clients show only the message. */
function messageOf(error: ProductError): string {
  const [first, ...others] = error.details;
  if (first === undefined) return publicText(error).message;
  const message = first.code === 'unknown_field' ? `The field ${first.param} is not supported.` : first.message;
  return others.length === 0 ? message : `${message} There are ${others.length} more faults.`;
}

export function openaiErrorAnswers<Status extends Parameters<typeof errorAnswersWith>[1][number]>(
  ...statuses: Status[]
) {
  return errorAnswersWith(OpenaiErrorSchema, statuses);
}
