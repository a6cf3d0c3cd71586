/** When each error code is answered, and what to do about it; Markdown for a cell of a table. @type {Record<string, string>} */
export const ERROR_MEANINGS = {
  invalid_request:
    'A field, parameter or header is missing or has a value that is not allowed. `details` names every one of them.',
  invalid_json:
    'The body is not JSON (the message says where), or has a key `__proto__`. In a dataset: the fault of a line that is not JSON.',
  unknown_field: 'There is no such field. Fields are never ignored: correct the name, or leave it out.',
  unauthorized:
    'The key is missing, or is not one that is valid now: send `Authorization: Bearer lsk_…`. It may have been revoked.',
  forbidden:
    "The key's role does not allow this call (the message says which do). Without keys: the call came from another site or under another host name than this machine's.",
  not_found: 'There is nothing at this path, or the adapter has no file of this name. The message lists those it has.',
  method_not_allowed: 'The path does not take this method. The header `allow` says which it takes.',
  conflict:
    'What is there does not go with what is asked: the base model on this host has other weights or another `config.json` than the adapter was trained on, or a merged model in several files was asked for as one.',
  idempotency_conflict: 'The `Idempotency-Key` was used with another request. Take a new key for a new job.',
  in_use: 'An unfinished job reads this dataset. Cancel or await the jobs that the message names.',
  body_too_large: 'The body is larger than what is taken. The message says how much that is.',
  unsupported_media_type: 'The content type, or a compressed body, is not taken here. The message says what is.',
  range_not_satisfiable: 'The `Range` begins past the end. `content-range` says how many bytes there are.',
  too_many_requests: 'The key has made more calls than it may in a minute. Wait for the seconds in `retry-after`.',
  quota_exceeded:
    'The key has as many unfinished jobs, open streams, downloads or uploads, as many datasets or adapters, or as many bytes of them, as it may. Await or cancel some, or delete what is no longer needed.',
  queue_full: 'As many jobs wait for a worker as may. Try again after the seconds in `retry-after`.',
  dataset_not_found:
    'No such dataset. As the error of a job: it was removed after the job was queued; upload it again.',
  dataset_empty: 'The file has no rows.',
  invalid_dataset:
    'Lines of the file are wrong. `details` has up to 100 faults with line and code, and the message says whether the file was looked at to its end; nothing was stored.',
  job_not_found: 'No such job.',
  job_not_cancellable: 'The job has ended, or its adapter is being published at this moment.',
  job_not_resumable:
    'The job waits or runs already, or has succeeded: only a failed or cancelled job is resumed. Or what it left is being removed; try again in a minute.',
  job_still_active: 'Only a job that has ended can be deleted, and its checkpoints published. Cancel it first.',
  checkpoint_not_found:
    'No such checkpoint is kept: newer ones replaced it, its time was up, it was beyond the bytes that are kept, or (as the error of a job) it is damaged. `GET /jobs/:id/checkpoints` lists those there are.',
  invalid_job:
    'Settings that do not go together, or that the base model or `init_from` does not allow. `param` says which.',
  unmatched_target: 'A name or pattern in `lora` selects no layer. The message names the layers there are.',
  no_trained_tokens: 'A row has nothing to learn from: an empty answer, no assistant turn, or only its first token.',
  row_too_long: 'A row has more tokens than `max_seq_length` or than the model has positions. See `on_overflow`.',
  dataset_format_mismatch:
    'The rows do not go with the base model: numbers for a language model, text for a classifier, another number of features, or `messages` where the model has no chat template.',
  validation_split_empty: 'The split leaves nothing to train on, or nothing to evaluate.',
  label_out_of_range: 'The classifier has no class of this number.',
  chat_template_failed: 'The chat template does not take this conversation; the message and `line` say why and where.',
  does_not_fit: 'The job needs more memory than the machine has. The message names settings that would fit.',
  model_not_found: 'There is no base model of this name. `GET /models` lists those there are.',
  model_file_missing: 'A file of the base model is missing. The message names it.',
  model_file_corrupt:
    'A file of the base model is damaged or contradicts another. The message names it; fetch it again.',
  model_not_supported:
    'The base model has something that is not supported. The message names the field, tensor or file.',
  adapter_not_found: 'No such adapter.',
  invalid_adapter:
    'The adapter cannot be used: something in its files is not supported or damaged, or it was made for another base.',
  merge_not_finite: 'Merging would give numbers that are not finite in the dtype of the base. Nothing was written.',
  merge_crashed: 'The process that merges died. Try again; the log of the registry has its last lines.',
  import_crashed:
    'The process that checks an imported adapter died. Try again; the log of the registry has its last lines.',
  non_finite_loss:
    'Loss or gradient became NaN or infinite, so training stopped. Lower `learning_rate`, or look at the rows.',
  adapter_check_failed:
    'The adapter that was trained failed a check before it was published: the message says which and by how much. Nothing was published; the checkpoints are kept.',
  job_timed_out:
    'The job trained longer than `JOB_TIMEOUT_MS` and was stopped with a checkpoint. Resume it to go on, or train fewer steps.',
  trainer_crashed: 'The trainer process died, three times over. Its last line is in the message, more in the log.',
  trainer_hung: 'The trainer gave no sign of life for two minutes and was ended, three times over.',
  out_of_memory:
    'The trainer was ended because memory ran out. Smaller `batch_size` with more accumulation, or shorter rows.',
  gpu_unavailable:
    'Ends no job. A worker that must have a GPU and sees none does not start; one that loses it hands its job back and ends.',
  cancelled: 'The work was stopped because somebody asked for it.',
  invalid_configuration:
    'A service does not start: an environment variable is wrong. It says which, and gives an example.',
  storage_full:
    'The disk is full, as many datasets or adapters, or bytes of them, are stored as may be, or a merged model is larger than `MERGED_CACHE_BYTES`. Make room, then try again.',
  storage_unavailable:
    'The S3 bucket does not answer or refuses. The message says which; jobs are tried again by themselves.',
  internal_error: 'A fault of ours. The log has more under the `request_id` of the answer.',
  service_unavailable:
    'Something is not ready or too busy. Try again after the seconds in `retry-after`; `details` of `/ready` name what is away.',
  redis_unavailable: 'Redis cannot be reached. Jobs that run go on, and report when it is back.',
  registry_unavailable:
    'The registry cannot be reached, so adapters cannot be listed or fetched. Jobs are not touched.',
  timeout: 'The work took longer than its limit. After a merge that takes long, ask again: it goes on.',
};
