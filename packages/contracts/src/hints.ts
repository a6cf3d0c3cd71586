import { AdapterReference, AliasName } from './alias-name.js';
import { JobRequest, LoraSettings, TrainingSettings, ValidationSettings } from './job.js';
import { HubRepository, HubRevision } from './model.js';
import { AdapterId, DatasetId, JobId, LABEL_PATTERN, ModelName } from './schema-parts.js';

// Hints for error messages: fields, paths and rows of PEFT, Unsloth, TRL and the OpenAI API, and what to use here instead.

/** Fields of other tools, and the job field with the same meaning. */
const SAME_FIELD: Readonly<Record<string, string>> = {
  // PEFT, Unsloth
  rank: 'lora.r',
  lora_r: 'lora.r',
  lora_alpha: 'lora.alpha',
  lora_dropout: 'lora.dropout',
  lora_target_modules: 'lora.target_modules',
  rslora: 'lora.use_rslora',
  loraplus_lr_ratio: 'lora.lora_plus_ratio',
  use_gradient_checkpointing: 'training.recompute',
  random_state: 'training.seed',
  // transformers, TRL
  model_name: 'base_model',
  model_name_or_path: 'base_model',
  base_model_name_or_path: 'base_model',
  num_train_epochs: 'training.epochs',
  num_epochs: 'training.epochs',
  lr: 'training.learning_rate',
  per_device_train_batch_size: 'training.batch_size',
  train_batch_size: 'training.batch_size',
  gradient_accumulation: 'training.gradient_accumulation_steps',
  lr_scheduler_type: 'training.lr_scheduler',
  max_length: 'training.max_seq_length',
  max_seq_len: 'training.max_seq_length',
  cutoff_len: 'training.max_seq_length',
  gradient_checkpointing: 'training.recompute',
  optim: 'training.optimizer',
  dtype: 'training.precision',
  torch_dtype: 'training.precision',
  eval_steps: 'training.eval_every_steps',
  save_steps: 'training.checkpoint_every_steps',
  patience: 'training.early_stopping.patience',
  early_stopping_patience: 'training.early_stopping.patience',
  num_generations: 'objective.group_size',
  max_completion_length: 'objective.max_completion_tokens',
  num_iterations: 'objective.updates_per_batch',
  epsilon: 'objective.clip_low',
  epsilon_high: 'objective.clip_high',
  reward_funcs: 'objective.grader',
  // the OpenAI API
  model: 'base_model',
  training_file: 'dataset',
  validation_file: 'validation.dataset',
  train_file: 'dataset',
  eval_dataset: 'validation.dataset',
  eval_file: 'validation.dataset',
  validation_dataset: 'validation.dataset',
  dataset_id: 'dataset',
  n_epochs: 'training.epochs',
  suffix: 'name',
};

/** Fields of other tools that do not exist here, and what to do instead. */
const NO_SUCH_FIELD: Readonly<Record<string, string>> = {
  use_dora: 'DoRA is not supported: leave it out, or try lora.use_rslora with a higher rank.',
  modules_to_save: 'Only the A and B of LoRA are trained: leave it out.',
  bias: 'Biases are never trained: leave it out.',
  init_lora_weights: 'A always starts Kaiming-uniform and B as zeros: leave it out.',
  task_type: 'The base model determines this: leave it out.',
  peft_type: 'The method is always LoRA: leave it out.',
  load_in_4bit: 'Use training.base_quantization: "nf4".',
  load_in_8bit: 'Weights are not quantized to 8 bits: use training.base_quantization: "nf4".',
  bnb_4bit_quant_type: 'Use training.base_quantization: "nf4".',
  bnb_4bit_use_double_quant: 'Scales are always quantized with training.base_quantization: "nf4": leave it out.',
  bnb_4bit_compute_dtype: 'Use training.precision: "float32" or "bfloat16".',
  quantization_config: 'Use training.base_quantization: "nf4".',
  fp16: 'Use training.precision: "float32" or "bfloat16".',
  bf16: 'Use training.precision: "float32" or "bfloat16".',
  packing: 'Rows always lie one after the other without padding: leave it out.',
  train_on_inputs: 'The format of the rows determines what is trained: leave it out.',
  warmup_steps: 'Use training.warmup_ratio, a share of the steps.',
  learning_rate_multiplier: 'Use training.learning_rate, the rate itself: 1e-4 by default.',
  hyperparameters: 'Put its fields into training and lora.',
  method: 'Put its fields into training and lora.',
  test_size: 'Use validation.split, a share of the rows of dataset.',
  val_set_size: 'Use validation.split, a share of the rows of dataset.',
  trust_remote_code: 'Code that comes with a model is never run: leave it out.',
};

const OWN_FIELDS: readonly (readonly [name: string, path: string])[] = [
  ...Object.keys(LoraSettings.properties).map((name) => [name, `lora.${name}`] as const),
  ...Object.keys(TrainingSettings.properties).map((name) => [name, `training.${name}`] as const),
  ...Object.keys(ValidationSettings.properties).map((name) => [name, `validation.${name}`] as const),
  ...Object.keys(JobRequest.properties).map((name) => [name, name] as const),
];

const FIELD_HINTS: ReadonlyMap<string, string> = new Map([
  ...[...OWN_FIELDS, ...Object.entries(SAME_FIELD)].map(([name, path]) => [name, `In a job it is ${path}.`] as const),
  ...Object.entries(NO_SUCH_FIELD),
]);

const ASK_BY_WEBHOOK =
  'Graders run no code and choose no labels: a grader of type webhook calls a service of yours, which can.';
const MODEL_ALONE = 'A model scores answers alone, in a grader of type score_model, and not within a formula.';

/** Fields of OpenAI's graders that ours do not have. */
const GRADER_FIELD_HINTS: Readonly<Record<string, string>> = {
  model: MODEL_ALONE,
  sampling_params: 'The model is asked at temperature 0 where it takes one: leave it out.',
  labels: ASK_BY_WEBHOOK,
  passing_labels: ASK_BY_WEBHOOK,
  source: ASK_BY_WEBHOOK,
  image_tag: ASK_BY_WEBHOOK,
  range: MODEL_ALONE,
  pass_threshold: 'Rewards are used as they are: leave it out.',
  name: 'A grader has no name here, and those of multi have that of their key: leave it out.',
};

/** Types of OpenAI's graders that there are not. */
const GRADER_TYPE_HINTS: Readonly<Record<string, string>> = {
  score_model: MODEL_ALONE,
  label_model: ASK_BY_WEBHOOK,
  python: ASK_BY_WEBHOOK,
  endpoint: 'It is a grader of type webhook.',
};

/** A grader, or one of several, at the end of a path. */
const IN_GRADER = /(^|\.)(grader|graders\.[^.]+)$/;

/**
 * The field to use instead of one that does not exist, or not at this location; undefined if unknown.
 *
 * @param path - of the object that has the field; empty: the body
 */
export function fieldHint(name: string, path: string): string | undefined {
  if (IN_GRADER.test(path)) return Object.hasOwn(GRADER_FIELD_HINTS, name) ? GRADER_FIELD_HINTS[name] : undefined;
  return FIELD_HINTS.get(name);
}

/** The advice for a value that is none of those allowed at a path; undefined if unknown. */
export function valueHint(path: string, value: unknown): string | undefined {
  const isType = path.endsWith('.type') && IN_GRADER.test(path.slice(0, -'.type'.length));
  if (!isType || typeof value !== 'string' || !Object.hasOwn(GRADER_TYPE_HINTS, value)) return undefined;
  return GRADER_TYPE_HINTS[value];
}

/** The regular expression of a schema of texts, by which its values are known; undefined: it has none. */
export function patternOf(schema: object): string | undefined {
  return (schema as { pattern?: string }).pattern;
}

const PATTERN_HINTS: ReadonlyMap<unknown, string> = new Map([
  [
    patternOf(ModelName),
    'the name of a folder in MODELS_DIR, without a slash. GET /models lists them; POST /model-pulls fetches one from the Hugging Face hub',
  ],
  [
    patternOf(HubRepository),
    'an organisation or user, a slash and the name of the model, such as HuggingFaceTB/SmolLM2-135M-Instruct',
  ],
  [patternOf(HubRevision), 'a branch, a tag or a commit of the model, such as main'],
  [patternOf(DatasetId), 'the id of a dataset, "ds_" and 24 characters, which POST /datasets returns'],
  [patternOf(AdapterId), 'the id of an adapter, "ad_" and 24 characters. A job has it in its field "adapter"'],
  [
    patternOf(AdapterReference),
    'the id of an adapter, "ad_" and 24 characters, or a name that points to one. A job has it in its field "adapter"',
  ],
  [
    patternOf(AliasName),
    'at most 64 lower-case letters, digits, ".", "_" and "-", a letter first, and not begin as an id does ("ad_")',
  ],
  [
    LABEL_PATTERN,
    'text in one line with a character that can be seen, without control characters and marks of text direction',
  ],
  [patternOf(JobId), 'the id of a job, "job_" and 24 characters, which POST /jobs returns'],
]);

/** Describes a pattern in words instead of a regular expression; undefined if unknown. */
export function patternHint(pattern: string): string | undefined {
  return PATTERN_HINTS.get(pattern);
}

const TEXT_IS = 'Text comes from POST /v1/chat/completions and POST /v1/completions.';

/** Paths of the OpenAI API, with or without /v1, and what to use instead. */
const PATH_HINTS: readonly (readonly [path: RegExp, hint: string])[] = [
  [/^(\/v1)?\/uploads(\/|$)/, 'Files are uploaded whole, with POST /v1/files or POST /datasets.'],
  [/^\/files(\/|$)/, 'Files are under /v1/files.'],
  [/^\/fine_tuning(\/|$)/, 'Fine-tuning is under /v1/fine_tuning/jobs.'],
  [/^(\/v1)?\/fine-tunes(\/|$)/, 'Fine-tuning is POST /v1/fine_tuning/jobs, or POST /jobs.'],
  [/^\/v1\/fine_tuning\/(alpha|checkpoints)(\/|$)/, 'Graders and permissions of checkpoints are not supported.'],
  [/^(\/v1)?\/(chat|completions|responses|engines)(\/|$)/, TEXT_IS],
  [/^(\/v1)?\/embeddings(\/|$)/, 'There are no embeddings here.'],
  [/^\/v1\/(datasets|jobs|adapters)(\/|$)/, 'This path does not start with /v1.'],
];

/** The path to use instead of an unknown one; undefined if unknown. */
export function pathHint(pathname: string): string | undefined {
  return PATH_HINTS.find(([path]) => path.test(pathname))?.[1];
}

const SEND_MESSAGES =
  'Send {"messages": [{"role", "content"}, …]} with the roles system, user and assistant ("human" is user, "gpt" assistant).';
const SEND_ANSWERS = 'Send the question as "prompt" and the answer as "completion".';
const SEND_TEXT = 'Rows are tokenized here, by the base model\'s tokenizer: send {"text"} or {"messages"}.';

/** Keys of rows in the formats of other tools. */
const ROW_HINTS: Readonly<Record<string, string>> = {
  conversation: `This is a conversation. ${SEND_MESSAGES}`,
  dialogue: `This is a conversation. ${SEND_MESSAGES}`,
  contents: `This is Gemini's format. ${SEND_MESSAGES}`,
  question: SEND_ANSWERS,
  query: SEND_ANSWERS,
  answer: SEND_ANSWERS,
  response: SEND_ANSWERS,
  input_ids: SEND_TEXT,
};

/** The advice for a row in the format of another tool; undefined if unknown. */
export function rowHint(row: unknown): string | undefined {
  if (typeof row !== 'object' || row === null) return undefined;
  if (Array.isArray(row)) return ROW_IS_LIST;
  const [, hint] = Object.entries(ROW_HINTS).find(([key]) => Object.hasOwn(row, key)) ?? [];
  return hint;
}

/** Fields that are lists in other formats and text here. */
const TEXT_HINTS: Readonly<Record<string, string>> = {
  prompt: 'It is a list of messages: send prompt and completion together as {"messages": […]}.',
  completion: 'It is a list of messages: send prompt and completion together as {"messages": […]}.',
};

/** The value to send instead of a list under this key; undefined if unknown. */
export function listHint(key: string): string | undefined {
  return Object.hasOwn(TEXT_HINTS, key) ? TEXT_HINTS[key] : undefined;
}

/** The forms of a row's fields that may have several types. */
const UNIONS: Readonly<Record<string, string>> = {
  content: 'must be a text, or a list of parts {"type": "text", "text"}',
  reasoning_content: 'must be a text',
  weight: 'must be 0 or 1',
  tools: 'must be a list of {"type": "function", "function"}',
  tool_calls: 'must be a list of {"id", "type": "function", "function": {"name", "arguments"}}',
  arguments: 'must be a JSON object, as text',
  name: 'must be a text',
  tool_call_id: 'must be a text',
};

/** The forms of a value whose schema is a union; undefined if unknown. */
export function unionHint(key: string): string | undefined {
  return Object.hasOwn(UNIONS, key) ? UNIONS[key] : undefined;
}

const ROW_IS_LIST = 'The row is a list. A row is an object; the file may be one JSON array of them.';

/** The advice for a file whose first line shows that it is not JSONL; undefined if it may be. */
export function fileHint(firstLine: string): string | undefined {
  if (firstLine.trim() !== '{') return undefined;
  return 'A row spans several lines. Send JSONL, one row per line (jq -c . FILE), or a JSON array.';
}
