import { AdapterReference, DatasetId, JobRequest, ModelName, Note, patternOf, Tag } from '@lorasmith/contracts';

/** The input of a field. */
export type FieldInputKind =
  | 'base-model'
  | 'dataset'
  | 'adapter'
  | 'choice'
  | 'flag'
  | 'number'
  | 'text'
  /** Values with commas between them. */
  | 'list'
  /** Words with commas between them. */
  | 'tags'
  /** A text of some lines. */
  | 'note'
  /** A text in each line, or JSON. */
  | 'lines'
  | 'json';

/** A field of a job, as its schema describes it: a new one is in the form without further code. */
export interface JobField {
  /** The name that faults have: `training.learning_rate`. */
  id: string;
  path: readonly string[];
  label: string;
  input: FieldInputKind;
  choices: readonly string[];
  /** Undefined: it has none. */
  preset: unknown;
  isNullable: boolean;
  isRequired: boolean;
  /** True if a list may also be a text, such as a regular expression. */
  acceptsText: boolean;
  description: string | undefined;
}

/** The parts of JSON Schema that the schema of a job uses. */
interface FieldSchema {
  type?: string;
  anyOf?: FieldSchema[];
  enum?: unknown[];
  items?: FieldSchema;
  pattern?: string;
  properties?: Record<string, FieldSchema>;
  required?: string[];
  default?: unknown;
  description?: string;
}

/** Sections whose fields are known by their own names. */
const UNNAMED_SECTIONS: readonly string[] = ['lora', 'training'];

/** Schemas of ids: their description says nothing about the choice. */
const OF_IDS: ReadonlySet<unknown> = new Set(
  [ModelName, DatasetId, AdapterReference].map((schema: FieldSchema) => schema.description),
);

const INPUTS_BY_PATTERN: ReadonlyMap<unknown, FieldInputKind> = new Map([
  [patternOf(ModelName), 'base-model'],
  [patternOf(DatasetId), 'dataset'],
  [patternOf(AdapterReference), 'adapter'],
  [patternOf(Tag), 'tags'],
  [patternOf(Note), 'note'],
]);

/** Every field that a job request may have, in the order of the schema. Those of nested objects are fields of their own. */
export function jobFields(schema: object = JobRequest): JobField[] {
  return fieldsOf(schema as FieldSchema, []);
}

function fieldsOf(object: FieldSchema, path: readonly string[]): JobField[] {
  return Object.entries(object.properties ?? {}).flatMap(([name, schema]) => {
    const own = [...path, name];
    const { schemas, isNullable } = alternativesOf(schema);
    const [only] = schemas;
    if (schemas.length === 1 && only!.properties !== undefined) return fieldsOf(only!, own);
    const id = own.join('.');
    return [
      {
        id,
        path: own,
        label: FIELD_LABELS[id] ?? words(UNNAMED_SECTIONS.includes(own[0]!) ? own.slice(1) : own),
        input: inputOf(schemas),
        choices: (only?.enum ?? []).map(String),
        preset: schema.default ?? only?.default ?? (isNullable && 'default' in schema ? null : undefined),
        isNullable,
        isRequired: path.length === 0 && (object.required ?? []).includes(name),
        acceptsText: schemas.some(({ type }) => type === 'string'),
        description: descriptionOf([schema.description, only?.description]),
      },
    ];
  });
}

function alternativesOf(schema: FieldSchema): { schemas: FieldSchema[]; isNullable: boolean } {
  const all = schema.anyOf ?? [schema];
  const schemas = all.filter(({ type }) => type !== 'null');
  return { schemas, isNullable: schemas.length < all.length };
}

function inputOf(schemas: readonly FieldSchema[]): FieldInputKind {
  const list = schemas.find(({ type }) => type === 'array');
  if (list !== undefined) {
    const { type, pattern } = list.items ?? {};
    return INPUTS_BY_PATTERN.get(pattern) ?? (type === undefined || type === 'array' ? 'lines' : 'list');
  }
  const [only] = schemas;
  if (only === undefined || schemas.length > 1) return 'json';
  if (only.enum !== undefined) return 'choice';
  if (only.type === 'boolean') return 'flag';
  if (only.type === 'integer' || only.type === 'number') return 'number';
  if (only.type === 'string') return INPUTS_BY_PATTERN.get(only.pattern) ?? 'text';
  return 'json';
}

function descriptionOf(descriptions: readonly (string | undefined)[]): string | undefined {
  return descriptions.find((one) => one !== undefined && !OF_IDS.has(one));
}

/** `early_stopping`, `patience` → `Early stopping: patience` */
function words(names: readonly string[]): string {
  const text = names.map((name) => name.replaceAll('_', ' ')).join(': ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The field that a fault is about: the one whose value it lies in, or the first within the object that it is about. */
export function fieldOfFault(fields: readonly JobField[], param: string | undefined): JobField | undefined {
  if (param === undefined) return undefined;
  return (
    fields.find(({ id }) => param === id || param.startsWith(`${id}.`)) ??
    fields.find(({ id }) => id.startsWith(`${param}.`))
  );
}

/** The names of the fields for people. The name that the API has is shown next to it, as a hint. */
export const FIELD_LABELS: Readonly<Record<string, string>> = {
  base_model: 'Base model',
  dataset: 'Dataset',
  priority: 'Priority',
  'validation.split': 'Share of rows to hold out',
  'validation.dataset': 'Dataset to evaluate on',
  'lora.r': 'Rank (r)',
  'lora.alpha': 'Alpha',
  'lora.dropout': 'Dropout',
  'lora.target_modules': 'Layers to adapt',
  'lora.target_parameters': 'Experts to adapt',
  'lora.exclude_modules': 'Layers to leave out',
  'lora.layers_to_transform': 'Only blocks with these numbers',
  'lora.rank_pattern': 'Other ranks for some layers',
  'lora.alpha_pattern': 'Other alphas for some layers',
  'lora.use_rslora': 'Scale by the root of the rank (rsLoRA)',
  'lora.lora_plus_ratio': 'Faster learning of B (LoRA+)',
  'lora.init_from': 'Continue the adapter',
  'objective.kind': 'What is learned',
  'objective.loss': 'Loss of preferences',
  'objective.beta': 'Closeness to the base model (beta)',
  'objective.label_smoothing': 'Share of wrong labels expected',
  'objective.sft_weight': 'Weight of the chosen answer',
  'objective.gamma': 'Margin between rewards (gamma)',
  'objective.desirable_weight': 'Weight of wanted answers',
  'objective.undesirable_weight': 'Weight of unwanted answers',
  'objective.grader.type': 'Grader of answers',
  'objective.grader.input': 'Text that is graded',
  'objective.grader.reference': 'Text it is compared with',
  'objective.grader.operation': 'Comparison of the grader',
  'objective.grader.ignore_case': 'Grader ignores case',
  'objective.grader.pattern': 'Pattern of the grader',
  'objective.grader.tolerance': 'Tolerance of numbers',
  'objective.grader.schema': 'Schema of JSON answers',
  'objective.grader.evaluation_metric': 'Similarity of the grader',
  'objective.grader.graders': 'Graders that are combined',
  'objective.grader.calculate_output': 'Formula of the combined grade',
  'objective.grader.url': 'Address of the grader',
  'objective.grader.model': 'Model that scores answers',
  'objective.grader.range': 'Range of scores',
  'objective.grader.timeout_seconds': 'Seconds to wait for the grader',
  'objective.group_size': 'Answers to each prompt',
  'objective.max_completion_tokens': 'Longest sampled answer',
  'objective.normalization': 'Normalization of the loss',
  'objective.scale_rewards': 'Scaling of rewards',
  'objective.clip_low': 'Lower clip of the ratio',
  'objective.clip_high': 'Upper clip of the ratio',
  'objective.kl_weight': 'Weight of the divergence (KL)',
  'objective.updates_per_batch': 'Updates with the same answers',
  'training.epochs': 'Epochs',
  'training.max_steps': 'Number of steps',
  'training.batch_size': 'Rows in a micro-batch',
  'training.gradient_accumulation_steps': 'Micro-batches in a step',
  'training.learning_rate': 'Learning rate',
  'training.lr_scheduler': 'Learning-rate schedule',
  'training.warmup_ratio': 'Share of warm-up steps',
  'training.optimizer': 'Optimizer',
  'training.weight_decay': 'Weight decay',
  'training.max_grad_norm': 'Gradients are clipped at',
  'training.max_seq_length': 'Longest row in tokens',
  'training.on_overflow': 'Rows that are longer',
  'training.completion_format': 'Form of prompts and answers',
  'training.precision': 'Precision',
  'training.base_quantization': 'Base model in 4 bits',
  'training.recompute': 'Compute layers again to save memory',
  'training.seed': 'Seed',
  'training.eval_every_steps': 'Steps between evaluations',
  'training.early_stopping.patience': 'Stop early after evaluations without progress',
  'training.early_stopping.min_delta': 'Least progress of the loss',
  'training.publish': 'State that becomes the adapter',
  'training.checkpoint_every_steps': 'Steps between checkpoints',
  'samples.prompts': 'Prompts to answer before and after',
  'samples.held_out_rows': 'Held-out rows to answer and compare',
  'samples.every_steps': 'Steps between samples',
  'samples.max_tokens': 'Longest answer in tokens',
  'samples.temperature': 'Temperature of answers',
  'samples.top_p': 'Top p of answers',
  name: 'Name',
  metadata: 'Strings of your own',
  tags: 'Tags',
  note: 'Note',
  'webhook.url': 'Address to tell at the end',
  deliver: 'Where to deliver the adapter',
};
