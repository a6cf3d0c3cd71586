import { type Static, Type } from 'typebox';

/**
 * Every error code of the product with its HTTP status. A released code keeps its meaning. 4xx: the client can fix it. 5xx:
 * the operator must. A code that only ends jobs has the status that a synchronous check would have.
 */
export const ERROR_STATUS = {
  // the request
  invalid_request: 400,
  invalid_json: 400,
  unknown_field: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  idempotency_conflict: 409,
  in_use: 409,
  body_too_large: 413,
  unsupported_media_type: 415,
  range_not_satisfiable: 416,
  too_many_requests: 429,
  quota_exceeded: 429,
  queue_full: 429,
  // datasets
  dataset_not_found: 404,
  dataset_empty: 422,
  invalid_dataset: 422,
  // jobs
  job_not_found: 404,
  job_not_cancellable: 409,
  job_not_pausable: 409,
  job_not_resumable: 409,
  job_still_active: 409,
  checkpoint_not_found: 404,
  invalid_job: 422,
  unmatched_target: 422,
  no_trained_tokens: 422,
  row_too_long: 422,
  dataset_format_mismatch: 422,
  validation_split_empty: 422,
  label_out_of_range: 422,
  chat_template_failed: 422,
  does_not_fit: 422,
  // base models
  model_not_found: 404,
  model_file_missing: 422,
  model_file_corrupt: 422,
  model_not_supported: 422,
  model_pull_not_found: 404,
  // the hub
  hub_access_denied: 403,
  hub_model_not_found: 404,
  hub_file_corrupt: 422,
  hub_offline: 503,
  hub_unavailable: 503,
  // adapters
  adapter_not_found: 404,
  invalid_adapter: 422,
  merge_not_finite: 422,
  merge_crashed: 500,
  import_crashed: 500,
  // while generating text
  context_length_exceeded: 400,
  // while training
  non_finite_loss: 422,
  job_timed_out: 422,
  adapter_check_failed: 500,
  trainer_crashed: 500,
  trainer_hung: 500,
  out_of_memory: 500,
  gpu_unavailable: 503,
  cancelled: 409,
  // the stack
  invalid_configuration: 500,
  storage_full: 507,
  storage_unavailable: 503,
  internal_error: 500,
  unsupported_version: 500,
  service_unavailable: 503,
  redis_unavailable: 503,
  registry_unavailable: 503,
  timeout: 504,
} as const satisfies Record<string, number>;

export type ErrorCode = keyof typeof ERROR_STATUS;

export const ERROR_CODES = Object.keys(ERROR_STATUS) as ErrorCode[];

/** One of several faults: its code, its location, and what to do. */
export const Fault = Type.Object(
  {
    code: Type.String({ description: 'Stable code of this fault.' }),
    message: Type.String(),
    param: Type.Optional(Type.String({ description: 'Path of the field, such as `lora.r`.' })),
    line: Type.Optional(Type.Integer({ minimum: 1, description: 'Line number in the uploaded file, from 1.' })),
    dataset: Type.Optional(
      Type.String({ description: 'The dataset of the line, where it is the validation dataset.' }),
    ),
  },
  { $id: 'Fault', additionalProperties: false },
);
export type Fault = Static<typeof Fault>;

/** The body of every answer with a status of 4xx or 5xx. */
export const ErrorBody = Type.Object(
  {
    error: Type.Object(
      {
        code: Type.String({ description: 'Stable code of the error.' }),
        message: Type.String({ description: 'Says what happened and what to do.' }),
        param: Type.Union([Type.String(), Type.Null()]),
        request_id: Type.Union([Type.String(), Type.Null()]),
        details: Type.Array(Fault, { description: 'Every fault that was found, with its location.' }),
      },
      { additionalProperties: false },
    ),
  },
  { $id: 'ErrorBody', additionalProperties: false },
);
export type ErrorBody = Static<typeof ErrorBody>;

export interface ProductErrorOptions {
  /** Path of the request field at fault. */
  param?: string | undefined;
  /** Every fault, with its location. */
  details?: Fault[] | undefined;
  /** When to try again, if known. */
  retryAfterSeconds?: number | undefined;
  cause?: unknown;
}

/** Limits for answers and log lines, because messages can quote input of any length. */
const MAX_MESSAGE_CHARACTERS = 4_000;
const MAX_PARAM_CHARACTERS = 1_000;

/** The message and param of an error as clients and other processes receive them. */
export function publicText({ message, param }: ProductError): Pick<ProductError, 'message' | 'param'> {
  return { message: message.slice(0, MAX_MESSAGE_CHARACTERS), param: param?.slice(0, MAX_PARAM_CHARACTERS) };
}

/** The one error class: a code from {@link ERROR_STATUS} and a sentence that says what to do. */
export class ProductError extends Error {
  readonly code: ErrorCode;
  readonly param: string | undefined;
  readonly details: Fault[];
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: ProductErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ProductError';
    this.code = code;
    this.param = options.param;
    this.details = options.details ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get status(): number {
    return ERROR_STATUS[this.code];
  }
}
