import { type Static, Type } from 'typebox';
import { detailsFilters, MAX_NAME_CHARACTERS, ownDetails, searchFilter } from './details.js';
import { GroupMetrics } from './group-relative.js';
import { JobSpec } from './job.js';
import { HubRepository, ModelOrigin } from './model.js';
import { CountedPage, orderParameters, PageQuery } from './page.js';
import { PreferenceMetrics } from './preference.js';
import { AdapterChecks, AdapterProbe } from './probe.js';
import { RecordVersion } from './record-version.js';
import { Report } from './report.js';
import { SampleRound } from './samples.js';
import { AdapterId, closed, DatasetId, JobId, Label, ModelName, Nullable, Owner } from './schema-parts.js';
import { SessionModelSpec } from './session-model.js';

const sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });

export const AdapterFile = Type.Object(
  { name: Type.String(), bytes: Type.Integer({ minimum: 0 }), sha256 },
  { $id: 'AdapterFile', ...closed },
);
export type AdapterFile = Static<typeof AdapterFile>;

/** The tokens of an evaluation. */
export const evaluatedTokens = {
  tokens: Type.Integer({ minimum: 0, description: 'All tokens of the held-out rows; rows for a classifier.' }),
  trained_tokens: Type.Integer({
    minimum: 0,
    description: 'Those of them that the loss is the mean over; rows for a classifier.',
  }),
};

export const Evaluation = Type.Object(
  {
    loss: Type.Number(),
    perplexity: Nullable(Type.Number()),
    accuracy: Type.Number(),
    preference: Type.Optional(PreferenceMetrics),
    group: Type.Optional(GroupMetrics),
    ...evaluatedTokens,
  },
  { $id: 'Evaluation', ...closed },
);
export type Evaluation = Static<typeof Evaluation>;

/** The figures of a training. */
export const TrainingResult = Type.Object(
  {
    steps: Type.Integer(),
    tokens: Type.Integer({ description: 'Tokens read.' }),
    trained_tokens: Type.Integer(),
    seconds: Type.Number({
      description:
        'Time of training, evaluation and checkpoints, and in which the trainer computed for other jobs meanwhile.',
    }),
    peak_memory_bytes: Type.Integer({
      description:
        "On the CUDA engine, the most memory of the card that tensors took during the job. On another engine, the peak resident set of the trainer process in the memory of the host: it includes what TensorFlow keeps of an earlier job on the same base, and not what TensorFlow's engine for GPUs uses of a card. Jobs that trained in the same process at the same time are included.",
    }),
    first_loss: Type.Number(),
    last_loss: Type.Number(),
    losses: Type.Array(Type.Number(), { description: 'One per step, or 1,000 evenly spaced ones.' }),
    accuracies: Type.Array(Type.Number(), { description: 'One per loss, of the same step.' }),
    adapter_step: Type.Integer({
      description: 'The step whose state became the adapter: the last one, or the best by evaluation.',
    }),
    stopped_early: Type.Boolean({ description: 'Whether early_stopping ended training before the planned steps.' }),
    evaluation_before: Nullable(Evaluation),
    evaluation_after: Nullable(Evaluation),
    samples: Type.Array(SampleRound, { description: 'Empty without `samples` in the job.' }),
  },
  { $id: 'TrainingResult', ...closed },
);
export type TrainingResult = Static<typeof TrainingResult>;

const trained = { kind: Type.Literal('trained'), job: JobId };
const published = {
  kind: Type.Literal('published-checkpoint'),
  job: Type.String({ ...JobId, description: 'The job that trained; another one published its checkpoint.' }),
  step: Type.Integer({ minimum: 0, description: 'Step of the checkpoint.' }),
};
const imported = { kind: Type.Literal('imported') };

const session = {
  kind: Type.Literal('session'),
  model: Type.String({ description: 'The model that a client trained call by call.' }),
  checkpoint: Type.String({
    description: 'Kind and name under which the client saved it.',
    examples: ['weights/step-100'],
  }),
};

/** The origin of an adapter: by a training job, from a checkpoint, by a client call by call, or by an import. */
const Origin = Type.Union(
  [
    Type.Object(trained, closed),
    Type.Object(published, closed),
    Type.Object(session, closed),
    Type.Object(imported, closed),
  ],
  { $id: 'AdapterOrigin' },
);

/** A dataset that may no longer exist, and its content. */
const DatasetReference = Type.Object({ id: DatasetId, sha256, rows: Type.Integer() }, closed);

const training = {
  dataset: DatasetReference,
  validation_dataset: Nullable(DatasetReference, { description: 'Null without validation.dataset.' }),
  settings: JobSpec,
  report: Report,
  result: TrainingResult,
  probe: AdapterProbe,
  checks: AdapterChecks,
};

export const TrainedOrigin = Type.Object({ ...trained, ...training }, { $id: 'TrainedOrigin', ...closed });
export type TrainedOrigin = Static<typeof TrainedOrigin>;
export const PublishedCheckpointOrigin = Type.Object(
  { ...published, ...training },
  { $id: 'PublishedCheckpointOrigin', ...closed },
);
export type PublishedCheckpointOrigin = Static<typeof PublishedCheckpointOrigin>;
export const ImportedOrigin = Type.Object(imported, { $id: 'ImportedOrigin', ...closed });
export type ImportedOrigin = Static<typeof ImportedOrigin>;

export const SessionOrigin = Type.Object(
  {
    ...session,
    steps: Type.Integer({ minimum: 0, description: 'Optimizer steps.' }),
    settings: SessionModelSpec,
    precision: Type.Enum(['float32', 'bfloat16']),
    optimizer: Nullable(AdapterFile, { description: 'The state of the optimizer. It is not downloaded.' }),
    probe: AdapterProbe,
    checks: AdapterChecks,
  },
  { $id: 'SessionOrigin', ...closed },
);
export type SessionOrigin = Static<typeof SessionOrigin>;

/** The file `manifest.json` beside the PEFT files: what the adapter is, and how it was made. */
export const AdapterManifest = Type.Object(
  {
    version: RecordVersion,
    id: AdapterId,
    object: Type.Literal('adapter'),
    owner: Owner,
    name: Nullable(Type.String()),
    created_at: Type.String(),
    origin: Type.Union([TrainedOrigin, PublishedCheckpointOrigin, SessionOrigin, ImportedOrigin]),
    base_model: Type.Object(
      {
        name: ModelName,
        origin: Type.Optional(ModelOrigin),
        family: Type.String(),
        weights_sha256: sha256,
        architecture_sha256: Type.String({
          ...sha256,
          description: 'Digest of everything in config.json that changes what the model computes.',
        }),
        quantization: Nullable(
          Type.Object(
            {
              type: Type.Enum(['nf4', 'fp4']),
              double_quantization: Type.Boolean({ description: 'Whether scales are quantized, too.' }),
              on_load: Type.Boolean({
                description: 'Whether training.base_quantization has quantized it; else its files are so.',
              }),
              experts: Type.Optional(
                Type.Literal(true, {
                  description:
                    'Its experts are quantized, too, which bitsandbytes leaves as they are in transformers 5.',
                }),
              ),
            },
            closed,
          ),
          { description: 'The form in 4 bits of the linear layers that the adapter was trained on. Null: none.' },
        ),
      },
      closed,
    ),
    lora: Type.Object(
      {
        r: Type.Integer(),
        alpha: Type.Number({ description: 'The true alpha: the scale is alpha / r.' }),
        modules: Type.Array(Type.String()),
        rank_pattern: Type.Record(Type.String(), Type.Integer(), {
          description:
            'Ranks of the modules that were trained with a rank other than r. In the files they are padded with zeros.',
        }),
        alpha_pattern: Type.Record(Type.String(), Type.Number(), {
          description:
            'Alphas of the modules that were trained with another alpha. In the files the difference is folded into B.',
        }),
      },
      closed,
    ),
    versions: Type.Record(Type.String(), Type.String(), { description: 'Versions of the software that made it.' }),
    files: Type.Array(Type.Object({ name: Type.String(), bytes: Type.Integer(), sha256 }, closed)),
  },
  { $id: 'AdapterManifest', ...closed },
);
export type AdapterManifest = Static<typeof AdapterManifest>;

type ManifestOrigin = AdapterManifest['origin'];

/** The origin of an adapter that a job here has made; null for any other. */
export function jobOrigin(origin: ManifestOrigin): TrainedOrigin | PublishedCheckpointOrigin | null {
  return origin.kind === 'trained' || origin.kind === 'published-checkpoint' ? origin : null;
}

/** The answers by which an adapter is recognised in a server; null for one that was not trained here. */
export function probeOf(origin: ManifestOrigin): AdapterProbe | null {
  return origin.kind === 'imported' ? null : origin.probe;
}

/** The precision in which an adapter was trained; null if that is not known. */
export function trainedPrecision(origin: ManifestOrigin): 'float32' | 'bfloat16' | null {
  return origin.kind === 'session' ? origin.precision : (jobOrigin(origin)?.report.precision.chosen ?? null);
}

/** The adapter that a trainer has made: its manifest without the job, the owner and the name. */
export type TrainingOutcome = Pick<AdapterManifest, 'base_model' | 'lora' | 'versions' | 'files'> &
  Pick<TrainedOrigin, 'dataset' | 'validation_dataset' | 'report' | 'result' | 'probe' | 'checks'>;

/** An item of `GET /adapters`. */
export const Adapter = Type.Object(
  {
    id: AdapterId,
    object: Type.Literal('adapter'),
    origin: Origin,
    owner: Owner,
    name: Nullable(Type.String(), {
      description: 'As it is now. The manifest has the one with which it was published.',
    }),
    ...ownDetails,
    base_model: ModelName,
    bytes: Type.Integer({ minimum: 0 }),
    created_at: Type.String(),
  },
  { $id: 'Adapter', ...closed },
);
export type Adapter = Static<typeof Adapter>;
export const AdapterPage = CountedPage(Adapter, 'AdapterPage');

/** The fields that a list of adapters is sorted by. */
export const ADAPTER_SORTS = ['created_at', 'name', 'base_model', 'bytes'] as const satisfies (keyof Adapter)[];

/** Query of `GET /adapters`. An adapter must match all filters. */
export const AdapterQuery = Type.Object(
  {
    ...PageQuery.properties,
    q: searchFilter('their name, id, base model or tags'),
    ...detailsFilters,
    base_model: Type.Optional(ModelName),
    ...orderParameters(
      ADAPTER_SORTS,
      'What the adapters are sorted by. Those without a name come last, and of equal ones the newest first.',
    ),
  },
  closed,
);
export type AdapterQuery = Static<typeof AdapterQuery>;

export const AdapterFileList = Type.Object({ data: Type.Array(AdapterFile) }, { $id: 'AdapterFileList', ...closed });

/** Number and bytes of the stored adapters, as the registry reports them to the api. */
export const AdapterUsage = Type.Object(
  {
    own_adapters: Type.Integer({ minimum: 0 }),
    own_bytes: Type.Integer({ minimum: 0 }),
    total_adapters: Type.Integer({ minimum: 0 }),
    total_bytes: Type.Integer({ minimum: 0 }),
  },
  closed,
);
export type AdapterUsage = Static<typeof AdapterUsage>;

/** Query of `POST /adapters`. */
export const ImportAdapterQuery = Type.Object(
  {
    // Default: the one that base_model_name_or_path in adapter_config.json names.
    base_model: Type.Optional(ModelName),
    name: Type.Optional(Label(MAX_NAME_CHARACTERS)),
  },
  closed,
);
export type ImportAdapterQuery = Static<typeof ImportAdapterQuery>;

const weights = Type.Optional(
  Type.Enum(['adapter', 'merged'], {
    default: 'adapter',
    description:
      'merged: the whole model with the adapter merged into it, W + (alpha / r) B A. It is computed on the first ' +
      'request.',
  }),
);
/** The types of the matrices in a GGUF file. */
export const GgufTensorType = Type.Enum(['f32', 'f16', 'bf16', 'q8_0'], {
  description:
    'With `format=gguf`: the type of the matrices, as llama.cpp names it. By default f32 for an adapter and f16 for a ' +
    'merged model.',
});
export type GgufTensorType = Static<typeof GgufTensorType>;

const layout = Type.Optional(
  Type.Enum(['peft', 'per-expert'], {
    default: 'peft',
    description:
      'per-expert: an adapter of experts with two matrices for each projection of each expert, as vLLM and llama.cpp read it; ' +
      'it is computed on the first request. An adapter of linear layers alone is the same in both layouts.',
  }),
);

const namedBaseModel = Type.Optional(
  Type.Unsafe<string>({
    ...HubRepository,
    description:
      'The repository of the hub that `adapter_config.json` and the model card name as the base model. By default the one that it ' +
      'was pulled from, or else its name here.',
  }),
);

/** Query of `GET /adapters/:id`. */
export const DownloadQuery = Type.Object(
  {
    weights,
    layout,
    format: Type.Optional(
      Type.Enum(['tar', 'safetensors', 'gguf'], {
        default: 'tar',
        description:
          'safetensors: only the weights file. gguf: one file for llama.cpp and Ollama, with tokenizer and chat ' +
          'template if it is the merged model; it is computed on the first request.',
      }),
    ),
    type: Type.Optional(GgufTensorType),
    base_model: namedBaseModel,
  },
  closed,
);
/** Query of `GET /adapters/:id/files` and of one of these files. */
export const AdapterFilesQuery = Type.Object(
  {
    weights,
    layout,
    format: Type.Optional(
      Type.Enum(['safetensors', 'gguf'], {
        default: 'safetensors',
        description: 'gguf: the GGUF file, and a Modelfile for Ollama.',
      }),
    ),
    type: Type.Optional(GgufTensorType),
    base_model: namedBaseModel,
  },
  closed,
);

/** Media types of an uncompressed tar. The service and its client send the first. */
export const TAR_MEDIA_TYPES = ['application/x-tar', 'application/tar', 'application/octet-stream'] as const;

/** Files of a published adapter folder. The first two are PEFT's own format; TensorBoard reads the log by its ending. */
export const ADAPTER_FILES = {
  config: 'adapter_config.json',
  weights: 'adapter_model.safetensors',
  manifest: 'manifest.json',
  card: 'README.md',
  log: 'training.tfevents',
  /** The state of the optimizer of a session's model. It is for those who continue the model, and no part of what is handed out. */
  optimizer: 'optimizer.safetensors',
} as const;
