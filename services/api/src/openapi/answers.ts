import { ErrorBody } from '@lorasmith/contracts';
import { type TSchema, Type } from 'typebox';

/** An entry of a route's `response`, for its documentation. */
export interface Answer {
  description: string;
  content: Record<string, { schema: TSchema }>;
}

export function answer(description: string, schema: TSchema, contentType = 'application/json'): Answer {
  return { description, content: { [contentType]: { schema } } };
}

/** An answer without a body, for instance 204. */
export function noBody(description: string): unknown {
  return Type.Null({ description });
}

const ERROR_DESCRIPTIONS = {
  400: 'The request is malformed, has an unknown field, or a value that is not allowed.',
  401: 'The API key is missing or invalid.',
  403: "The key's role does not allow this.",
  404: 'It does not exist, or belongs to another key.',
  409: 'The current state does not allow it.',
  413: 'The body is too large.',
  415: 'The content type or encoding is not supported.',
  416: 'The range is not within the file.',
  422: 'The request is well-formed but cannot be carried out. `details` has every fault with its location.',
  429:
    'The key has reached a limit of calls, jobs, uploads, datasets or bytes. Try again after the seconds in ' +
    '`Retry-After`.',
  503: 'Something that the service needs is unavailable. Try again.',
  504: 'The work took longer than its limit.',
  507: 'Storage is full: the disk, or a limit of the service.',
} as const;

/** The description of an error with this status, as all calls have it; undefined for a status that is none. */
export function errorDescription(status: string): string | undefined {
  return status === INTERNAL_STATUS ? INTERNAL : ERROR_DESCRIPTIONS[Number(status) as ErrorStatus];
}

const INTERNAL_STATUS = '500';
const INTERNAL = 'Internal error.';

/** Errors of any call. */
const EVERYWHERE = [400, 401, 403, 429] as const;

type ErrorStatus = keyof typeof ERROR_DESCRIPTIONS;

/** The errors of a call: these, and those of any call. */
export function errorAnswers<Status extends ErrorStatus>(...statuses: Status[]) {
  return errorAnswersWith(ErrorBody, statuses);
}

/** {@link errorAnswers} with a body of another form. */
export function errorAnswersWith<Status extends ErrorStatus>(
  body: TSchema,
  statuses: readonly Status[],
): Record<Status | (typeof EVERYWHERE)[number] | 500, Answer> {
  const entries = [...statuses, ...EVERYWHERE].map((status) => [status, answer(ERROR_DESCRIPTIONS[status], body)]);
  const internal = answer(INTERNAL, body);
  return Object.fromEntries([...entries, [500, internal]]) as Record<
    Status | (typeof EVERYWHERE)[number] | 500,
    Answer
  >;
}
