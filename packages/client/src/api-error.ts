import { ERRORS, type ErrorBody, type ErrorCode, ProductError } from '@lorasmith/contracts';

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
  if (answered !== null) return answered;
  return new ApiError(response.status, {
    code: codeOfStatus(response.status),
    message: `${response.url} answered ${response.status} ${response.statusText}, not in the form of this API; is it the right address?`,
    param: null,
    request_id: null,
    details: [],
  });
}

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
