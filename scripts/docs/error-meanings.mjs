/** When each error code occurs and what to do about it, in Markdown for a table cell. @type {Record<string, string>} */
export const ERROR_MEANINGS = {
  invalid_request: 'A field, parameter or header is missing, or its value is not allowed. `details` lists all of them.',
  invalid_json:
    'The body is not JSON (the message says where), or has a key `__proto__`. In `details` of a dataset: a line is not JSON.',
  unknown_field: 'There is no such field. Fields are never ignored: correct the name, or leave it out.',
  unauthorized: 'The API key is missing, unknown or revoked. Send `Authorization: Bearer lsk_…`.',
  forbidden:
    "The key's role does not allow this call; the message says which roles do. Without keys: the call came from another site, or under a host name that is not this machine's.",
  not_found:
    'There is nothing at this path, or the adapter has no file of this name. The message lists the files it has.',
  method_not_allowed: 'The path does not support this method. The header `allow` lists those it does.',
  conflict:
    'The request contradicts the current state: the base model on this host has other weights or another `config.json` than the one the adapter was trained on, or a merged model in several files was requested as one.',
  idempotency_conflict: 'The `Idempotency-Key` was used with another request. Use a new key for a new job.',
  in_use: 'An unfinished job reads this dataset. Cancel the jobs that the message names, or wait for them.',
  body_too_large: 'The body is larger than the limit. The message states the limit.',
  unsupported_media_type:
    'The content type is not supported here, or the body is compressed. The message lists the supported types.',
  range_not_satisfiable: 'The `Range` starts past the end. `content-range` states the length.',
  too_many_requests: 'The key has reached its calls per minute. Wait for the seconds in `retry-after`.',
  quota_exceeded:
    'The key has reached a quota: of unfinished jobs, open streams, downloads or uploads, or of the number or bytes of datasets or adapters. Wait for some, cancel them, or delete what is no longer needed.',
  queue_full: 'The queue has reached its maximum length. Try again after the seconds in `retry-after`.',
  dataset_not_found:
    'There is no such dataset. As the error of a job: the dataset was removed after the job was queued. Upload it again.',
  dataset_empty: 'The file has no rows.',
  invalid_dataset:
    'Lines of the file are wrong, and nothing was stored. `details` has up to 100 faults with line and code; the message says whether the whole file was checked.',
  job_not_found: 'There is no such job.',
  job_not_cancellable: 'The job has ended, or its adapter is being published right now.',
  job_not_pausable:
    'The job has ended, is being cancelled, publishes a checkpoint, or its adapter is being published right now.',
  job_not_resumable:
    'Only a failed, cancelled or paused job can be resumed; this one is waiting, running, or has succeeded. Or its checkpoints are being removed: try again in a minute.',
  job_still_active: 'A job can be deleted, and its checkpoints published, only after it has ended. Cancel it first.',
  checkpoint_not_found:
    'The checkpoint does not exist: newer ones replaced it, its time or the quota of bytes ran out, or (as the error of a job) it is damaged. `GET /jobs/:id/checkpoints` lists those that exist.',
  invalid_job:
    'Settings contradict each other, or the base model or `init_from` does not allow them. `param` says which.',
  unmatched_target: 'A name or pattern in `lora` selects no layer. The message names the layers there are.',
  no_trained_tokens: 'A row has nothing to train: an empty answer, no assistant turn, or only one token.',
  row_too_long: 'A row has more tokens than `max_seq_length` or than the model has positions. See `on_overflow`.',
  dataset_format_mismatch:
    'The rows do not fit the base model: numbers for a language model, text for a classifier, another number of features, or `messages` for a model without a chat template.',
  validation_split_empty: '`validation.split` leaves no row to train on, or none to evaluate.',
  label_out_of_range:
    'The classifier has no class of this number; or a row of the validation dataset has a label that no row to train on has.',
  chat_template_failed:
    'The chat template refuses this conversation, or does not write its tools or calls; the message and `line` say why and where.',
  does_not_fit: 'The job needs more memory than the machine has. The message names settings that would fit.',
  model_not_found: 'There is no base model of this name. `GET /models` lists those that exist.',
  model_file_missing: 'A file of the base model is missing. The message names it.',
  model_file_corrupt:
    'A file of the base model is damaged or contradicts another. The message names it. Download it again.',
  model_not_supported:
    'The base model needs something that is not supported. The message names the field, tensor or file.',
  adapter_not_found: 'There is no such adapter.',
  invalid_adapter:
    'The adapter cannot be used: its files are damaged or need something that is not supported, or it was made for another base.',
  merge_not_finite: 'The merged weights would not be finite in the dtype of the base. Nothing was written.',
  merge_crashed: "The merge process died. Try again; the registry's log has its last lines.",
  import_crashed: "The process that checks an imported adapter died. Try again; the registry's log has its last lines.",
  context_length_exceeded:
    'The prompt is longer than the model or the service can read. The message has both lengths. Shorten it.',
  non_finite_loss:
    'Loss or gradient became NaN or infinite, so training stopped. Lower `learning_rate`, or check the rows.',
  adapter_check_failed:
    'The trained adapter failed a check before publishing; the message says which, and by how much. Nothing was published. The checkpoints are kept.',
  job_timed_out:
    'The job trained longer than `JOB_TIMEOUT_MS` and was stopped with a checkpoint. Resume it to continue, or train fewer steps.',
  trainer_crashed: "The trainer process died three times. The message has its last line, the worker's log has more.",
  trainer_hung: 'The trainer was silent for two minutes and was killed, three times.',
  out_of_memory:
    'The trainer was killed because memory ran out. Use a smaller `batch_size` with more accumulation, or shorter rows.',
  gpu_unavailable:
    'Never the error of a job. A worker that must use a GPU and cannot does not start; one that loses its GPU releases its job and ends.',
  cancelled: 'The work was cancelled on request.',
  model_pull_not_found: 'There is no such pull. `GET /model-pulls` lists them.',
  hub_access_denied:
    'Only of a pull: the model is gated or private, or does not exist. Accept its terms on the hub, and set `HF_TOKEN` of the puller.',
  hub_model_not_found: 'Only of a pull: the hub has no such model or revision.',
  hub_file_corrupt:
    'Only of a pull: a file came twice with another digest than the hub names. It is not used. Pull it again later.',
  hub_offline: 'Only of a pull: `HF_HUB_OFFLINE` is set, so nothing is fetched.',
  hub_unavailable:
    'Only of a pull: the hub cannot be reached, or does not answer as one. What has arrived is kept: pull it again later.',
  invalid_configuration:
    'A service does not start because an environment variable is wrong. The message names it and gives an example.',
  storage_full:
    'The disk is full, the limit of stored datasets or adapters or of their bytes is reached, or a merged model is larger than `MERGED_CACHE_BYTES`. Free space, then try again.',
  storage_unavailable:
    'The S3 bucket does not answer, or refuses access; the message says which. Jobs are tried again automatically.',
  unsupported_version:
    'A stored record (job, dataset, manifest or checkpoint) was written by a release with another record version. Use that release, or delete the record.',
  internal_error: 'A bug in Lorasmith. The log has more under the `request_id` of the answer.',
  service_unavailable:
    'Something is not ready, or too busy. Try again after the seconds in `retry-after`; `details` of `/ready` names what is unavailable.',
  redis_unavailable: 'Redis cannot be reached. Running jobs continue, and report when it is back.',
  registry_unavailable:
    'The registry cannot be reached, so adapters cannot be listed or downloaded. Jobs are not affected.',
  timeout: 'The work took longer than its limit. A merge continues: ask again.',
};
