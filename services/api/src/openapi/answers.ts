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

/** An answer of a head only, for instance 204. */
export function noBody(description: string): unknown {
  return Type.Null({ description });
}

const ERROR_DESCRIPTIONS = {
  400: 'The request is malformed, has an unknown field, or a value out of its bounds.',
  401: 'The API key is missing or not valid.',
  403: 'The key may not do this.',
  404: 'There is no such thing, or it belongs to another key.',
  409: 'The state of things does not allow it.',
  413: 'The body is too large.',
  415: 'The content type or encoding is not taken.',
  416: 'The range is not within the file.',
  422: 'Well-formed, but it cannot be done; `details` has every fault with its place.',
  429: 'Too many calls, jobs, uploads, datasets or bytes for this key. Try again after the seconds in `Retry-After`.',
  503: 'Something that is needed is away. Try again.',
  504: 'It took too long.',
  507: 'There is no room for it: the data folder is full, or as much is stored as may be.',
} as const;

/** What any call may answer. */
const EVERYWHERE = [400, 401, 403, 429] as const;

/** The errors that a call answers with, besides those that any may. */
export function errorAnswers<Status extends keyof typeof ERROR_DESCRIPTIONS>(
  ...statuses: Status[]
): Record<Status | (typeof EVERYWHERE)[number] | 500, Answer> {
  const entries = [...statuses, ...EVERYWHERE].map((status) => [status, answer(ERROR_DESCRIPTIONS[status], ErrorBody)]);
  const internal = answer('Something went wrong on our side.', ErrorBody);
  return Object.fromEntries([...entries, [500, internal]]) as Record<
    Status | (typeof EVERYWHERE)[number] | 500,
    Answer
  >;
}
