import { type Static, Type } from 'typebox';
import { CheckpointReference } from './checkpoint.js';
import { AdapterId, JobId, ModelName } from './identifier.js';
import { JobSpec } from './job.js';
import { Nullable } from './nullable.js';
import { Owner } from './owner.js';
import { Page } from './page.js';
import { AdapterChecks, AdapterProbe } from './probe.js';
import { Report } from './report.js';

const closed = { additionalProperties: false };
const sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });

export const Evaluation = Type.Object(
  {
    loss: Type.Number(),
    perplexity: Nullable(Type.Number()),
    accuracy: Nullable(Type.Number()),
    tokens: Type.Integer({ minimum: 0 }),
  },
  { $id: 'Evaluation', ...closed },
);
export type Evaluation = Static<typeof Evaluation>;

/** What training came to. */
export const TrainingResult = Type.Object(
  {
    steps: Type.Integer(),
    tokens: Type.Integer({ description: 'Tokens read.' }),
    trained_tokens: Type.Integer(),
    seconds: Type.Number({ description: 'Of training, evaluation and checkpoints.' }),
    peak_memory_bytes: Type.Integer({
      description:
        'Peak resident set of the trainer process during the job, in the memory of the host. What TensorFlow keeps of an earlier job on the same base is in it, what was taken of a GPU is not.',
    }),
    first_loss: Type.Number(),
    last_loss: Type.Number(),
    losses: Type.Array(Type.Number(), { description: 'One per step, or evenly thinned to 1,000.' }),
    // Optional, as in checkpoint below: manifests from before they existed stay readable.
    adapter_step: Type.Optional(
      Type.Integer({ description: 'The step whose state the adapter is: the last one, or the best by evaluation.' }),
    ),
    stopped_early: Type.Optional(
      Type.Boolean({ description: 'By early_stopping, before the planned steps were done.' }),
    ),
    evaluation_before: Nullable(Evaluation),
    evaluation_after: Nullable(Evaluation),
  },
  { $id: 'TrainingResult', ...closed },
);
export type TrainingResult = Static<typeof TrainingResult>;

const origin = Type.Enum(['trained', 'imported'], { description: 'Made by a job here, or brought in.' });

/** Everything about how an adapter came to be; `manifest.json` beside the PEFT files. */
export const AdapterManifest = Type.Object(
  {
    id: AdapterId,
    object: Type.Literal('adapter'),
    origin,
    owner: Owner,
    name: Nullable(Type.String()),
    job: Nullable(JobId, { description: 'Null, as are dataset, settings, report and result, for an imported one.' }),
    checkpoint: Type.Optional(
      Nullable(CheckpointReference, { description: 'What it was published from, if not at the end of its training.' }),
    ),
    created_at: Type.String(),
    base_model: Type.Object(
      {
        name: ModelName,
        family: Type.String(),
        weights_sha256: sha256,
        // Absent as is probe below.
        architecture_sha256: Type.Optional(
          Type.String({ ...sha256, description: 'Of what config.json says that the model computes.' }),
        ),
      },
      closed,
    ),
    dataset: Nullable(Type.Object({ id: Type.String(), sha256, rows: Type.Integer() }, closed)),
    settings: Nullable(JobSpec),
    report: Nullable(Report),
    lora: Type.Object(
      {
        r: Type.Integer(),
        alpha: Type.Number({ description: 'True alpha: the scale is alpha / r.' }),
        modules: Type.Array(Type.String()),
        rank_pattern: Type.Record(Type.String(), Type.Integer(), {
          description:
            'Rank of the modules that were trained with another than r; in the files they are padded with zeros.',
        }),
        alpha_pattern: Type.Record(Type.String(), Type.Number(), {
          description: 'Alpha of the modules that were trained with another; in the files the difference is in B.',
        }),
      },
      closed,
    ),
    result: Nullable(TrainingResult),
    // Absent for an imported one, and for one of an earlier version.
    probe: Type.Optional(AdapterProbe),
    checks: Type.Optional(AdapterChecks),
    versions: Type.Record(Type.String(), Type.String()),
    files: Type.Array(Type.Object({ name: Type.String(), bytes: Type.Integer(), sha256 }, closed)),
  },
  { $id: 'AdapterManifest', ...closed },
);
export type AdapterManifest = Static<typeof AdapterManifest>;

/** An item of `GET /adapters`. */
export const Adapter = Type.Object(
  {
    id: AdapterId,
    object: Type.Literal('adapter'),
    origin,
    owner: Owner,
    name: Nullable(Type.String()),
    job: Nullable(JobId, { description: 'Null for an imported one.' }),
    base_model: ModelName,
    bytes: Type.Integer({ minimum: 0 }),
    created_at: Type.String(),
  },
  { $id: 'Adapter', ...closed },
);
export type Adapter = Static<typeof Adapter>;
export const AdapterPage = Page(Adapter, 'AdapterPage');

export const AdapterFile = Type.Object(
  { name: Type.String(), bytes: Type.Integer({ minimum: 0 }), sha256 },
  { $id: 'AdapterFile', ...closed },
);
export type AdapterFile = Static<typeof AdapterFile>;
export const AdapterFileList = Type.Object({ data: Type.Array(AdapterFile) }, { $id: 'AdapterFileList', ...closed });

/** What the registry tells the api of how much there is. */
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
    // Default: the last part of base_model_name_or_path in adapter_config.json.
    base_model: Type.Optional(ModelName),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
  },
  closed,
);
export type ImportAdapterQuery = Static<typeof ImportAdapterQuery>;

/** Files of a published adapter folder. The first two are PEFT's; nothing of ours is in them. */
export const ADAPTER_FILES = {
  config: 'adapter_config.json',
  weights: 'adapter_model.safetensors',
  manifest: 'manifest.json',
} as const;
