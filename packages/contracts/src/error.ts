import { type Static, Type } from 'typebox';
import { closed } from './schema-parts.js';

/**
 * Every error code of the product with its HTTP status, and its meaning for the reader of docs/api.md: when it occurs and what
 * to do (Markdown, one line). A released code keeps its meaning. 4xx: the client can fix it. 5xx:
 * the operator must. A code that only ends jobs has the status that a synchronous check would have.
 */
export const ERRORS = {
  // the request
  invalid_request: {
    status: 400,
    meaning: 'A field, parameter or header is missing, or its value is not allowed. `details` lists all of them.',
  },
  invalid_json: {
    status: 400,
    meaning:
      'The body is not JSON (the message says where), or has a key `__proto__`. In `details` of a dataset: a line is not JSON.',
  },
  unknown_field: {
    status: 400,
    meaning: 'There is no such field. Fields are never ignored: correct the name, or leave it out.',
  },
  unauthorized: {
    status: 401,
    meaning: 'The API key is missing, unknown or revoked. Send `Authorization: Bearer lsk_…`.',
  },
  forbidden: {
    status: 403,
    meaning:
      "The key's role does not allow this call; the message says which roles do. Without keys: the call came from another site, or under a host name that is not this machine's.",
  },
  not_found: {
    status: 404,
    meaning:
      'There is nothing at this path, or the adapter has no file of this name. The message lists the files it has.',
  },
  method_not_allowed: {
    status: 405,
    meaning: 'The path does not support this method. The header `allow` lists those it does.',
  },
  conflict: {
    status: 409,
    meaning:
      'The request contradicts the current state: the base model on this host has other weights or another `config.json` than the one the adapter was trained on, a merged model in several files was requested as one, or a name was moved meanwhile (`if_version`), is that of a base model, or cannot be rolled back. The message says which.',
  },
  idempotency_conflict: {
    status: 409,
    meaning: 'The `Idempotency-Key` was used with another request. Use a new key for a new job.',
  },
  in_use: {
    status: 409,
    meaning:
      'An unfinished job reads this dataset, or begins from this adapter: cancel the jobs that the message names, or wait for them. Or a name points to this adapter: move it first, or delete the name.',
  },
  body_too_large: { status: 413, meaning: 'The body is larger than the limit. The message states the limit.' },
  unsupported_media_type: {
    status: 415,
    meaning:
      'The content type is not supported here, or the body has a `content-encoding`. The message lists the supported types.',
  },
  range_not_satisfiable: {
    status: 416,
    meaning: 'The `Range` starts past the end. `content-range` states the length.',
  },
  too_many_requests: {
    status: 429,
    meaning: 'The key has reached its calls per minute. Wait for the seconds in `retry-after`.',
  },
  quota_exceeded: {
    status: 429,
    meaning:
      'The key has reached a quota: of unfinished jobs, open streams, downloads or uploads, or of the number or bytes of datasets or adapters. Wait for some, cancel them, or delete what is no longer needed.',
  },
  queue_full: {
    status: 429,
    meaning: 'The queue has reached its maximum length. Try again after the seconds in `retry-after`.',
  },
  // datasets
  dataset_not_found: {
    status: 404,
    meaning:
      'There is no such dataset. As the error of a job: the dataset was removed after the job was queued. Upload it again.',
  },
  dataset_empty: { status: 422, meaning: 'The file has no rows.' },
  invalid_dataset: {
    status: 422,
    meaning:
      'Lines of the file are wrong, or it is of a kind that is not taken, and nothing was stored. `details` has up to 100 faults with line and code; the message says whether the whole file was checked.',
  },
  // jobs
  job_not_found: { status: 404, meaning: 'There is no such job.' },
  job_not_cancellable: { status: 409, meaning: 'The job has ended, or its adapter is being published right now.' },
  job_not_pausable: {
    status: 409,
    meaning:
      'The job has ended, is being cancelled, publishes a checkpoint, or its adapter is being published right now.',
  },
  job_not_resumable: {
    status: 409,
    meaning:
      'Only a failed, cancelled or paused job can be resumed; this one is waiting, running, or has succeeded. Or its checkpoints are being removed: try again in a minute.',
  },
  job_still_active: {
    status: 409,
    meaning: 'A job can be deleted, and its checkpoints published, only after it has ended. Cancel it first.',
  },
  checkpoint_not_found: {
    status: 404,
    meaning:
      'The checkpoint does not exist: newer ones replaced it, its time or the quota of bytes ran out, or (as the error of a job) it is damaged. `GET /jobs/:id/checkpoints` lists those that exist.',
  },
  invalid_job: {
    status: 422,
    meaning:
      'Settings contradict each other, or the base model or `init_from` does not allow them. `param` says which.',
  },
  unmatched_target: {
    status: 422,
    meaning: 'A name or pattern in `lora` selects no layer. The message names the layers there are.',
  },
  no_trained_tokens: {
    status: 422,
    meaning: 'A row has nothing to train: an empty answer, no assistant turn, or only one token.',
  },
  row_too_long: {
    status: 422,
    meaning: 'A row has more tokens than `max_seq_length` or than the model has positions. See `on_overflow`.',
  },
  dataset_format_mismatch: {
    status: 422,
    meaning:
      'The rows do not fit the base model: numbers for a language model, text for a classifier, another number of features, or `messages` for a model without a chat template.',
  },
  validation_split_empty: {
    status: 422,
    meaning: '`validation.split` leaves no row to train on, or none to evaluate.',
  },
  label_out_of_range: {
    status: 422,
    meaning:
      'The classifier has no class of this number; or a row of the validation dataset has a label that no row to train on has.',
  },
  chat_template_failed: {
    status: 422,
    meaning:
      'The chat template refuses this conversation, or does not write its tools or calls; the message and `line` say why and where.',
  },
  does_not_fit: {
    status: 422,
    meaning: 'The job needs more memory than the machine has. The message names settings that would fit.',
  },
  // sweeps
  sweep_not_found: { status: 404, meaning: 'There is no such sweep.' },
  invalid_sweep: {
    status: 422,
    meaning:
      'The space of the sweep names a field that cannot be varied, two that exclude each other, no variant or too many, or variants that cannot run; or the metric is not measured by such a job. `param` says where.',
  },
  sweep_ended: {
    status: 409,
    meaning: 'The sweep has ended, so it cannot be cancelled, paused or resumed. Its jobs can be resumed one by one.',
  },
  sweep_still_active: {
    status: 409,
    meaning: 'A sweep can be deleted only after it has ended. Cancel it first.',
  },
  // base models
  model_not_found: {
    status: 404,
    meaning: 'There is no base model of this name. `GET /models` lists those that exist.',
  },
  model_file_missing: { status: 422, meaning: 'A file of the base model is missing. The message names it.' },
  model_file_corrupt: {
    status: 422,
    meaning: 'A file of the base model is damaged or contradicts another. The message names it. Download it again.',
  },
  model_not_supported: {
    status: 422,
    meaning: 'The base model needs something that is not supported. The message names the field, tensor or file.',
  },
  model_pull_not_found: { status: 404, meaning: 'There is no such pull. `GET /model-pulls` lists them.' },
  // the hub
  hub_access_denied: {
    status: 403,
    meaning:
      'Pulls only: the model or dataset is gated or private, or does not exist. Accept its terms on the hub, and set `HF_TOKEN`, for a model that of the puller.',
  },
  hub_model_not_found: { status: 404, meaning: 'Model pulls only: the hub has no such model or revision.' },
  hub_dataset_not_found: {
    status: 404,
    meaning: '`lora datasets pull` only: the hub has no such dataset or revision.',
  },
  hub_file_corrupt: {
    status: 422,
    meaning:
      "Pulls only: the file's digest did not match the hub's in two downloads. It is not used. Pull it again later.",
  },
  hub_offline: { status: 503, meaning: 'Pulls only: `HF_HUB_OFFLINE` is set, so nothing is fetched.' },
  hub_unavailable: {
    status: 503,
    meaning:
      'Pulls only: the hub cannot be reached, or does not answer as one. What has arrived of a model is kept: pull it again later.',
  },
  // moving in from OpenAI
  openai_access_denied: {
    status: 403,
    meaning:
      'Imports only: OpenAI, or the service that was named instead, refuses the key: it is wrong, was revoked, or may not read jobs and files. Nothing is half done. Import again with another key: it continues.',
  },
  openai_gone: {
    status: 404,
    meaning:
      'Imports only: the other service no longer has this job, file or model: it was deleted, has expired or was retired.',
  },
  openai_unavailable: {
    status: 503,
    meaning:
      'Imports only: the other service cannot be reached, limits the rate of calls beyond the retries, or does not answer as OpenAI does. Import again later: it continues.',
  },
  // adapters
  adapter_not_found: { status: 404, meaning: 'There is no such adapter.' },
  alias_not_found: {
    status: 404,
    meaning: 'The key has no such name of an adapter. `GET /aliases` lists its names.',
  },
  guard_failed: {
    status: 409,
    meaning:
      'The name was not moved: on the dataset of its guard, the loss of the new adapter exceeds that of the present one by more than `max_worse`. The message has both.',
  },
  invalid_adapter: {
    status: 422,
    meaning:
      'The adapter cannot be used: its files are damaged or need something that is not supported, or it was made for another base.',
  },
  merge_not_finite: {
    status: 422,
    meaning: 'The merged weights would not be finite in the dtype of the base. Nothing was written.',
  },
  merge_crashed: { status: 500, meaning: "The merge process died. Try again; the registry's log has its last lines." },
  import_crashed: {
    status: 500,
    meaning: "The process that checks an imported adapter died. Try again; the registry's log has its last lines.",
  },
  // deliveries
  delivery_not_found: { status: 404, meaning: 'There is no such delivery.' },
  invalid_delivery: {
    status: 422,
    meaning:
      'The adapter cannot be delivered there: the settings of the service do not allow this place, your key has stored no token of the hub, or the adapter has no probe that could show what a server answers with. The message says which.',
  },
  delivery_refused: {
    status: 422,
    meaning:
      'The server or the hub refused the adapter: it does not allow loading while it runs, for example, or the token may not write there. What was there before is as it was. Correct what the message names, and deliver again.',
  },
  delivery_not_verified: {
    status: 422,
    meaning:
      'The server does not answer with the numbers of the adapter, since it serves another base model, for example; what it served before was loaded again, unless the message says otherwise. Or what was read back from the hub or the bucket differs from what was sent.',
  },
  delivery_unreachable: {
    status: 503,
    meaning:
      'The server or the hub did not answer, in any of several attempts over some minutes. Deliver again once it does.',
  },
  delivery_overtaken: {
    status: 409,
    meaning: 'A later delivery to the same place was delivered first, so this one changed nothing.',
  },
  // comparisons
  comparison_not_found: { status: 404, meaning: 'There is no such comparison.' },
  invalid_comparison: {
    status: 422,
    meaning:
      'The comparison cannot be made: a model against itself, a judge that may not be asked or whose rubric or pattern cannot be read, rows without prompts, or none that both sides have an answer to. `param` says where.',
  },
  comparison_still_active: {
    status: 409,
    meaning: 'A comparison can be deleted only after it has ended. Cancel it first.',
  },
  judge_failed: {
    status: 422,
    meaning:
      'The judge of a comparison cannot be asked, or has failed for many rows one after the other; the message says why. What was judged before stays. Correct the judge, and compare again.',
  },
  // while generating text
  context_length_exceeded: {
    status: 400,
    meaning: 'The prompt is longer than the model or the service can read. The message has both lengths. Shorten it.',
  },
  // while training
  non_finite_loss: {
    status: 422,
    meaning: 'Loss or gradient became NaN or infinite, so training stopped. Lower `learning_rate`, or check the rows.',
  },
  grader_failed: {
    status: 422,
    meaning:
      'The grader of the job gave an answer no reward that can be used, not a number or one beyond a million, or its webhook failed. The message says which. Correct the formula or the webhook and resume the job: it continues with the same answers.',
  },
  job_timed_out: {
    status: 422,
    meaning:
      'The job trained longer than `JOB_TIMEOUT_MS` and was stopped with a checkpoint. Resume it to continue, or train fewer steps.',
  },
  adapter_check_failed: {
    status: 500,
    meaning:
      'The trained adapter failed a check before publishing; the message says which, and by how much. Nothing was published. The checkpoints are kept.',
  },
  trainer_crashed: {
    status: 500,
    meaning: "The trainer process died three times. The message has its last line, the worker's log has more.",
  },
  trainer_hung: {
    status: 500,
    meaning: 'The trainer was silent for longer than `TRAINER_SILENCE_MS` and was killed, three times.',
  },
  out_of_memory: {
    status: 500,
    meaning:
      'The trainer was killed because memory ran out. Use a smaller `batch_size` with more accumulation, or shorter rows.',
  },
  gpu_unavailable: {
    status: 503,
    meaning:
      'Never the error of a job. A worker that must use a GPU and cannot does not start; one that loses its GPU releases its job and ends.',
  },
  cancelled: { status: 409, meaning: 'The work was cancelled on request.' },
  // the stack
  invalid_configuration: {
    status: 500,
    meaning:
      'A service does not start because an environment variable is wrong. The message names it and gives an example.',
  },
  storage_full: {
    status: 507,
    meaning:
      'The disk is full, the limit of stored datasets or adapters or of their bytes is reached, or a merged model is larger than `MERGED_CACHE_BYTES`. Free space, then try again.',
  },
  storage_unavailable: {
    status: 503,
    meaning:
      'The S3 bucket does not answer, or refuses access; the message says which. Jobs are tried again automatically.',
  },
  internal_error: {
    status: 500,
    meaning: 'A bug in Lorasmith. The log has more under the `request_id` of the answer.',
  },
  unsupported_version: {
    status: 500,
    meaning:
      'A stored record (job, dataset, manifest or checkpoint) was written by a release with another record version. Use that release, or delete the record.',
  },
  service_unavailable: {
    status: 503,
    meaning:
      'Something is not ready, or too busy. Try again after the seconds in `retry-after`; `details` of `/ready` names what is unavailable.',
  },
  redis_unavailable: {
    status: 503,
    meaning: 'Redis cannot be reached. Running jobs continue, and report when it is back.',
  },
  registry_unavailable: {
    status: 503,
    meaning: 'The registry cannot be reached, so adapters cannot be listed or downloaded. Jobs are not affected.',
  },
  timeout: { status: 504, meaning: 'The work took longer than its limit. A merge continues: ask again.' },
} as const satisfies Record<string, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof ERRORS;

export const ERROR_CODES = Object.keys(ERRORS) as ErrorCode[];

/** One of several faults: its code, its location, and what to do. */
export const Fault = Type.Object(
  {
    code: Type.String({ description: 'Stable code of this fault.' }),
    message: Type.String(),
    param: Type.Optional(Type.String({ description: 'Path of the field, such as `lora.r`.' })),
    line: Type.Optional(Type.Integer({ minimum: 1, description: 'Line number in the uploaded file, from 1.' })),
    tokens: Type.Optional(Type.Integer({ minimum: 1, description: 'Tokens of the row, where it is too long.' })),
    dataset: Type.Optional(
      Type.String({ description: 'The dataset of the line, where it is the validation dataset.' }),
    ),
  },
  { $id: 'Fault', ...closed },
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
      closed,
    ),
  },
  { $id: 'ErrorBody', ...closed },
);
export type ErrorBody = Static<typeof ErrorBody>;

interface ProductErrorOptions {
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
/** Limits, for docs/limits.md. */
export const errorLimits = {
  message: { value: MAX_MESSAGE_CHARACTERS, unit: 'characters', beyond: 'the message is cut' },
};
const MAX_PARAM_CHARACTERS = 1_000;

/** The message and param of an error as clients and other processes receive them. */
export function publicText({
  message,
  param,
}: Pick<ProductError, 'message' | 'param'>): Pick<ProductError, 'message' | 'param'> {
  return { message: message.slice(0, MAX_MESSAGE_CHARACTERS), param: param?.slice(0, MAX_PARAM_CHARACTERS) };
}

/** The one error class: a code from {@link ERRORS} and a sentence that says what to do. */
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
    return ERRORS[this.code].status;
  }
}

/**
 * Passes chunks of bytes on.
 * @param what - What the bytes are, for messages: file, tar
 * @throws ProductError `body_too_large` beyond `maxBytes`; errors of the chunks
 */
export async function* bounded<Chunk extends Uint8Array>(
  chunks: AsyncIterable<Chunk>,
  maxBytes: number,
  what: string,
): AsyncGenerator<Chunk> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw bodyTooLarge(maxBytes, what);
    yield chunk;
  }
}

export function bodyTooLarge(maxBytes: number, what: string): ProductError {
  return new ProductError('body_too_large', `The ${what} is larger than the limit of ${maxBytes} bytes.`);
}
