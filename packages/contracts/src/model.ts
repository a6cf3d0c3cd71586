import { type Static, Type } from 'typebox';
import { closed, ModelName, Nullable } from './schema-parts.js';

/** A repository on the hub: its organisation or user, and its name. */
export const HubRepository = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$',
  description: 'Organisation or user, a slash, and the name of the model on the Hugging Face hub.',
  examples: ['HuggingFaceTB/SmolLM2-135M-Instruct'],
});

/** A branch, a tag or a commit. It is a part of an address, so `..` is not allowed. */
export const HubRevision = Type.String({
  pattern: '^(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$',
  description: 'A branch, a tag or a commit.',
  examples: ['main'],
});

const HubCommit = Type.String({ pattern: '^[0-9a-f]{40}$', description: 'The commit whose files these are.' });

/** The source of a base model. */
export const ModelOrigin = Type.Object(
  { repo: HubRepository, revision: HubRevision, commit: HubCommit },
  { $id: 'ModelOrigin', ...closed },
);
export type ModelOrigin = Static<typeof ModelOrigin>;

/** Body of `POST /model-pulls`. */
export const ModelPullRequest = Type.Object(
  {
    repo: HubRepository,
    revision: Type.Optional(Type.Unsafe<string>({ ...HubRevision, default: 'main' })),
    name: Type.Optional(
      Type.Unsafe<ModelName>({
        ...ModelName,
        description: 'Name of the base model here. Default: the name of the repository, without its organisation.',
      }),
    ),
  },
  { $id: 'ModelPullRequest', ...closed },
);
export type ModelPullRequest = Static<typeof ModelPullRequest>;

const PULL_STATUSES = ['queued', 'pulling', 'succeeded', 'failed', 'cancelled'] as const;
type PullStatus = (typeof PULL_STATUSES)[number];
/** A pull with one of these statuses has ended. */
export const ENDED_PULL_STATUSES: readonly PullStatus[] = ['succeeded', 'failed', 'cancelled'];

export const ModelPullId = Type.String({
  pattern: '^pull_[0-9a-f]{24}$',
  description: 'From the name of the base model: there is one pull of a name.',
  examples: ['pull_0123456789abcdef01234567'],
});
export type ModelPullId = Static<typeof ModelPullId>;

/** A file that a pull fetches. */
export const PulledFile = Type.Object(
  {
    name: Type.String(),
    bytes: Type.Integer({ minimum: 0 }),
    received_bytes: Type.Integer({ minimum: 0, description: 'Of these, on the disk.' }),
    digest: Type.String({
      pattern: '^(sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40})$',
      description:
        "What the hub says that the file has: the sha256 of a large file, or git's sha1 of a small one. A file with " +
        'another digest is not used.',
    }),
  },
  closed,
);
export type PulledFile = Static<typeof PulledFile>;

/** The fetching of a base model from the hub. */
export const ModelPull = Type.Object(
  {
    id: ModelPullId,
    object: Type.Literal('model_pull'),
    name: ModelName,
    repo: HubRepository,
    revision: HubRevision,
    commit: Nullable(HubCommit, { description: 'The commit of the revision; null until the hub has answered.' }),
    status: Type.Enum([...PULL_STATUSES]),
    files: Type.Array(PulledFile, { description: 'Empty until the hub has listed them.' }),
    total_bytes: Type.Integer({ minimum: 0 }),
    received_bytes: Type.Integer({ minimum: 0 }),
    error: Nullable(Type.Object({ code: Type.String(), message: Type.String() }, closed), {
      description:
        'Why it failed. What has arrived is kept for a week, so that a new pull of the same commit resumes it.',
    }),
    created_at: Type.String(),
    started_at: Nullable(Type.String()),
    ended_at: Nullable(Type.String()),
  },
  { $id: 'ModelPull', ...closed },
);
export type ModelPull = Static<typeof ModelPull>;

/** Answer of `GET /model-pulls`. */
export const ModelPullList = Type.Object({ data: Type.Array(ModelPull) }, { $id: 'ModelPullList', ...closed });

/** A linear layer that LoRA can adapt, or a parameter with the weights of all experts of a layer. */
export const AdaptableModule = Type.Object(
  {
    name: Type.String({
      description:
        'Full module path, such as model.layers.0.self_attn.q_proj, or that of a parameter, such as model.layers.0.mlp.experts.down_proj.',
    }),
    in_features: Type.Integer({ minimum: 1 }),
    out_features: Type.Integer({ minimum: 1 }),
    experts: Type.Optional(
      Type.Integer({
        minimum: 1,
        description:
          'Of a parameter: how many experts it has the weights of. in_features and out_features are of each.',
      }),
    ),
  },
  { $id: 'AdaptableModule', ...closed },
);
export type AdaptableModule = Static<typeof AdaptableModule>;

/** A base model on this host. */
export const BaseModel = Type.Object(
  {
    name: ModelName,
    object: Type.Literal('model'),
    family: Nullable(Type.String(), {
      description:
        'The model_type of the language model, such as llama or gemma3_text, or classifier; null if the model cannot be used.',
    }),
    parameters: Nullable(Type.Integer({ minimum: 0 })),
    bytes: Type.Integer({ minimum: 0, description: 'Size of the weight files.' }),
    dtype: Nullable(
      Type.String({
        description: 'float32, float16 or bfloat16; nf4 or fp4 (4 bits) or fp8 (8 bits) where most weights are.',
      }),
    ),
    max_positions: Nullable(Type.Integer()),
    target_modules: Type.Array(Type.String(), { description: 'Names that target_modules may contain.' }),
    problem: Nullable(Type.Object({ code: Type.String(), message: Type.String() }, closed), {
      description: 'Why the model cannot be trained, or null.',
    }),
    origin: Nullable(ModelOrigin, { description: 'Where it was pulled from; null if it came otherwise.' }),
  },
  { $id: 'BaseModel', ...closed },
);
export type BaseModel = Static<typeof BaseModel>;

const problem = Type.Object({ code: Type.String(), message: Type.String() }, closed);
const token = Nullable(Type.String());

/** A language model's way to read text, from its files. */
const ModelTextFacts = Type.Object(
  {
    vocab_size: Type.Integer({ minimum: 1 }),
    bos_token: token,
    eos_token: token,
    pad_token: token,
    chat_template: Nullable(Type.String(), {
      description: 'Its source (Jinja), up to 65,536 characters; null if the model has none.',
    }),
    problem: Nullable(problem, { description: 'Why the files of the tokenizer could not be read, or null.' }),
  },
  { $id: 'ModelTextFacts', ...closed },
);

/** `GET /models/:name`: with every module. */
export const BaseModelDetail = Type.Object(
  {
    ...BaseModel.properties,
    modules: Type.Array(AdaptableModule, {
      description: 'Every linear layer; last the output head, which "all-linear" leaves out.',
    }),
    expert_parameters: Type.Array(AdaptableModule, {
      description: 'The parameters of experts, which target_parameters selects; empty for a model without experts.',
    }),
    text: Nullable(ModelTextFacts, { description: 'Null for a classifier, and for a model that cannot be used.' }),
  },
  { $id: 'BaseModelDetail', ...closed },
);
export type BaseModelDetail = Static<typeof BaseModelDetail>;
export const BaseModelList = Type.Object(
  { data: Type.Array(BaseModel), has_more: Type.Literal(false), next: Type.Null() },
  { $id: 'BaseModelList', ...closed },
);
