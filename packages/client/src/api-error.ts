import { ERRORS, type ErrorBody, type ErrorCode, type Fault, ProductError } from '@lorasmith/contracts';

/** An answer with status 4xx or 5xx. A request without an answer fails with a plain {@link ProductError}. */
export class ApiError extends ProductError {
  readonly #status: number;
  /** The id of the request in the server's log; null if the answer did not come from Lorasmith. */
  readonly requestId: string | null;

  constructor(status: number, error: ErrorBody['error']) {
    const code = error.code in ERRORS ? (error.code as ErrorCode) : codeOfStatus(status);
    super(code, error.message, { param: error.param ?? undefined, details: error.details });
    this.name = 'ApiError';
    this.#status = status;
    this.requestId = error.request_id;
  }

  /** The HTTP status of the answer. */
  override get status(): number {
    return this.#status;
  }
}

/** Reads the error from an answer with status 4xx or 5xx, including answers of a proxy in another format. */
export async function apiErrorOf(response: Response): Promise<ApiError> {
  const answered = apiErrorOfText(response.status, await response.text().catch(() => ''));
  return answered ?? apiErrorWith(response.status, otherForm(response));
}

/** Reads the error from an answer of the calls of sessions, whose form is that of tinker. */
export async function sessionErrorOf(response: Response): Promise<ApiError> {
  const { detail } = (await response.json().catch(() => ({}))) as { detail?: unknown };
  return apiErrorWith(response.status, typeof detail === 'string' ? detail : otherForm(response));
}

const apiErrorWith = (status: number, message: string) =>
  new ApiError(status, { code: codeOfStatus(status), message, param: null, request_id: null, details: [] });

const otherForm = ({ url, status, statusText }: Response) =>
  `${url} answered ${status} ${statusText}, not in the form of this API; is it the right address?`;

/** The error that a text of the api says: of an answer, or within a stream. Null for any other text. */
export function apiErrorOfText(status: number, text: string): ApiError | null {
  const error = errorOf(text);
  return error === undefined ? null : new ApiError(status, error);
}

function errorOf(text: string): ErrorBody['error'] | undefined {
  try {
    const { error } = JSON.parse(text) as Partial<ErrorBody>;
    if (typeof error?.code !== 'string' || typeof error.message !== 'string') return undefined;
    return {
      code: error.code,
      message: error.message,
      param: error.param ?? null,
      request_id: error.request_id ?? null,
      details: Array.isArray(error.details) ? error.details : [],
    };
  } catch {
    return undefined;
  }
}

function codeOfStatus(status: number): ErrorCode {
  if (status === 502 || status === 503) return 'service_unavailable';
  if (status >= 500) return status === 504 ? 'timeout' : 'internal_error';
  const found = Object.entries(ERRORS).find(([, known]) => known.status === status && status !== 422);
  return (found?.[0] as ErrorCode | undefined) ?? 'invalid_request';
}

/** A fault, or several that say the same of different lines. */
export interface FoldedFault {
  /** The lines of the file, or the field; empty if the fault has none. */
  place: string;
  message: string;
}

/** Lines that are named. Further ones are counted. */
const NAMED_LINES = 4;

/** Faults with their places; those that say the same of several lines are one, and rows of different lengths have their range. */
export function foldedFaults(faults: readonly Fault[]): FoldedFault[] {
  const groups = new Map<string, Fault[]>();
  for (const fault of faults) {
    const { code, line, dataset, param } = fault;
    const key = JSON.stringify([code, dataset, line === undefined, param, withLength(fault, '')]);
    groups.set(key, [...(groups.get(key) ?? []), fault]);
  }
  return [...groups.values()].map((group) => ({ place: placeOf(group), message: messageOf(group) }));
}

/** Each fault as an indented line, with its location. */
export function faultLines(faults: readonly Fault[]): string[] {
  return foldedFaults(faults).map(({ place, message }) => `  ${place === '' ? '' : `${place}: `}${message}`);
}

function placeOf(group: readonly Fault[]): string {
  const [{ dataset, param } = {}] = group;
  const lines = group.flatMap(({ line }) => line ?? []);
  return lines.length === 0 ? (param ?? '') : `${linesText(lines)}${dataset === undefined ? '' : ` of ${dataset}`}`;
}

/** `line 3`, `lines 1, 4 and 7`, `lines 1, 4, 7 and 47 more` */
function linesText(lines: readonly number[]): string {
  if (lines.length === 1) return `line ${lines[0]}`;
  const named = lines.slice(0, lines.length > NAMED_LINES ? NAMED_LINES - 1 : -1);
  const last = lines.length > NAMED_LINES ? `${lines.length - named.length} more` : lines.at(-1);
  return `lines ${named.join(', ')} and ${last}`;
}

function messageOf(group: readonly Fault[]): string {
  const lengths = group.flatMap(({ tokens }) => tokens ?? []);
  const [shortest, longest] = [Math.min(...lengths), Math.max(...lengths)];
  return withLength(group[0]!, shortest === longest ? String(shortest) : `${shortest} to ${longest}`);
}

/** The message with another text for the tokens of the row; as it is for a fault that is not about a length. */
function withLength({ message, tokens }: Fault, text: string): string {
  return tokens === undefined ? message : message.replace(String(tokens), text);
}
