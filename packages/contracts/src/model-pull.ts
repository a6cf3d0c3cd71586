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

export const PULL_STATUSES = ['queued', 'pulling', 'succeeded', 'failed', 'cancelled'] as const;
export type PullStatus = (typeof PULL_STATUSES)[number];
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
