import { type ProductError, publicText } from '@lorasmith/contracts';
import { createErrorHandler, type ErrorForm } from '@lorasmith/service-kit';

/**
 * Errors as the tinker client reads them. It repeats a call with 409 for five minutes, so a contradiction is a fault of the request; it stops at
 * other statuses below 500, except 408 and 429.
 */
const tinkerErrors: ErrorForm = {
  statusOf: ({ status }) => (status === 409 ? 400 : status),
  bodyOf: (error) => ({ detail: detailOf(error) }),
};

export const answerTinkerError = createErrorHandler(tinkerErrors);

/** The message of an error, with its first detail. */
export function detailOf(error: ProductError): string {
  const [first] = error.details;
  if (first === undefined || error.message.includes(first.message)) return publicText(error).message;
  const where = first.param === undefined ? '' : `${first.param}: `;
  return publicText({ message: `${error.message} ${where}${first.message}`, param: undefined }).message;
}
