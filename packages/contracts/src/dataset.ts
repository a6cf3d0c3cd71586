import { type Static, Type } from 'typebox';
import { detailsFilters, ownDetails, searchFilter } from './details.js';
import { Fault } from './error.js';
import { JobFailure, MAX_SEQ_LENGTH, ON_OVERFLOW } from './job.js';
import { chatMessageFields, Tools } from './message.js';
import { CountedPage, orderParameters, PageQuery } from './page.js';
import { RecordVersion } from './record-version.js';
import { COMPLETION_FORMATS, closed, count, DatasetId, ModelName, Nullable, Owner } from './schema-parts.js';

/** The row formats, which differ in their keys. */
export const DATASET_FORMATS = [
  'messages',
  'prompt_completion',
  'instruction',
  'text',
  'features',
  'preference',
  'openai_preference',
  'labelled_completion',
  'graded_prompt',
] as const;
export const DatasetFormat = Type.Enum(DATASET_FORMATS, {
  description:
    'messages: {"messages": [{"role", "content"}], "tools"?}; prompt_completion: {"prompt", "completion"}; ' +
    'instruction: {"instruction", "input"?, "output"}; text: {"text"}; features: {"features": [numbers], "label": n}; ' +
    'preference: {"prompt"?, "chosen", "rejected", "tools"?}, each text or a list of messages; ' +
    'openai_preference: {"input": {"messages"}, "preferred_output": [messages], "non_preferred_output": [messages]}; ' +
    'labelled_completion: {"prompt", "completion", "label": true or false, "tools"?}, the first two text or lists of messages; ' +
    'graded_prompt: {"prompt", "reference", "tools"?}, a text or a list of messages, and what graders compare answers with.',
});
export type DatasetFormat = (typeof DATASET_FORMATS)[number];

const Sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });

const uploadedFields = {
  id: DatasetId,
  object: Type.Literal('dataset'),
  owner: Owner,
  sha256: Sha256,
  name: Type.Union([Type.String(), Type.Null()]),
  format: DatasetFormat,
  rows: Type.Integer({ minimum: 1 }),
  bytes: Type.Integer({ minimum: 1 }),
  features: Type.Union([Type.Integer(), Type.Null()], { description: 'Numbers per row, for format `features`.' }),
  warnings: Type.Array(Fault, {
    description: 'Findings that are not errors, such as duplicate rows.',
  }),
  created_at: Type.String({ description: 'RFC 3339, UTC.' }),
};

/** An uploaded dataset. */
export const Dataset = Type.Object({ ...uploadedFields, ...ownDetails }, { $id: 'Dataset', ...closed });
export type Dataset = Static<typeof Dataset>;
export const DatasetPage = CountedPage(Dataset, 'DatasetPage');

/** The fields that a list of datasets is sorted by. */
export const DATASET_SORTS = ['created_at', 'name', 'format', 'rows', 'bytes'] as const satisfies (keyof Dataset)[];

/** Query of `GET /datasets`. */
export const DatasetQuery = Type.Object(
  {
    ...PageQuery.properties,
    q: searchFilter('their name, id or tags'),
    ...detailsFilters,
    sha256: Type.Optional(Type.String({ ...Sha256, description: 'Only datasets with these bytes.' })),
    ...orderParameters(
      DATASET_SORTS,
      'What the datasets are sorted by. Those without a name come last, and of equal ones the newest first.',
    ),
  },
  closed,
);
export type DatasetQuery = Static<typeof DatasetQuery>;

/**
 * The state of a dataset's tokens for a base model.
 *
 * - `none`: they are not stored. The first job makes them.
 * - `waiting`, `preparing`: they are prepared after an upload with `base_model`.
 * - `ready`: they are stored. Jobs start with them at once.
 * - `failed`: the preparation failed, for the reason in `error`; so will a job.
 */
const DATASET_TOKENS_STATUSES = ['none', 'waiting', 'preparing', 'ready', 'failed'] as const;

/** `GET /datasets/:id/tokens`: the rows of a dataset as tokens of a base model. */
export const DatasetTokens = Type.Object(
  {
    object: Type.Literal('dataset_tokens'),
    dataset: DatasetId,
    base_model: ModelName,
    status: Type.Enum(DATASET_TOKENS_STATUSES, {
      description:
        'none: not stored, the first job makes them. waiting, preparing: after an upload with base_model. ready: stored. ' +
        'failed: see error; a job would fail for the same reason.',
    }),
    rows: Type.Integer({ minimum: 0, description: 'Rows that are tokenized.' }),
    total_rows: Type.Integer({ minimum: 1 }),
    error: Nullable(JobFailure, { description: 'Why the preparation failed, with every fault of the rows.' }),
  },
  { $id: 'DatasetTokens', ...closed },
);
export type DatasetTokens = Static<typeof DatasetTokens>;

/** The stored record of a dataset: `dataset.json` beside `data.jsonl`, which never changes. */
export const DatasetRecord = Type.Object({ version: RecordVersion, ...uploadedFields }, closed);
export type DatasetRecord = Static<typeof DatasetRecord>;
/** A dataset as it was uploaded. */
export type UploadedDataset = Omit<DatasetRecord, 'version'>;

/** File names within a published dataset folder. */
export const DATASET_FILES = { rows: 'data.jsonl', record: 'dataset.json' } as const;

/** Maximum turns. Planning renders a conversation once per turn, so its time grows with the square. */
const MAX_MESSAGES = 1000;
/** Limits, for docs/limits.md. */
export const datasetLimits = {
  messages: { value: MAX_MESSAGES, unit: 'messages', beyond: '422 `invalid_dataset`' },
};

/** A turn in a row: that of a chat, and whether it is trained. */
const RowMessage = Type.Object(
  {
    ...chatMessageFields,
    weight: Type.Optional(
      Type.Union([Type.Literal(0), Type.Literal(1)], { description: 'Of an assistant message. 0: it is not trained.' }),
    ),
  },
  closed,
);

/** A turn of a prompt or of one of its answers. Which of them are trained follows from their place. */
const PairMessage = Type.Object(chatMessageFields, closed);
const turns = Type.Array(PairMessage, { minItems: 1, maxItems: MAX_MESSAGES });
const textOrTurns = Type.Union([Type.String(), turns]);
const ofTools = {
  tools: Type.Optional(Nullable(Tools)),
  parallel_tool_calls: Type.Optional(Type.Boolean()),
};

/** The schema of one row of each format. The reader limits the length of a line. */
export const DatasetRow = {
  messages: Type.Object(
    {
      messages: Type.Array(RowMessage, { minItems: 1, maxItems: MAX_MESSAGES }),
      tools: Type.Optional(Nullable(Tools)),
      parallel_tool_calls: Type.Optional(
        Type.Boolean({
          description: 'false: no message of the row has more than one call. Not written into the text.',
        }),
      ),
    },
    closed,
  ),
  prompt_completion: Type.Object({ prompt: Type.String(), completion: Type.String() }, closed),
  instruction: Type.Object(
    { instruction: Type.String(), input: Type.Optional(Type.String()), output: Type.String() },
    closed,
  ),
  text: Type.Object({ text: Type.String() }, closed),
  features: Type.Object(
    { features: Type.Array(Type.Number(), { minItems: 1 }), label: Type.Integer({ minimum: 0 }) },
    closed,
  ),
  preference: Type.Object(
    { prompt: Type.Optional(textOrTurns), chosen: textOrTurns, rejected: textOrTurns, ...ofTools },
    closed,
  ),
  openai_preference: Type.Object(
    {
      input: Type.Object({ messages: turns, ...ofTools }, closed),
      preferred_output: turns,
      non_preferred_output: turns,
    },
    closed,
  ),
  labelled_completion: Type.Object(
    { prompt: textOrTurns, completion: textOrTurns, label: Type.Boolean(), ...ofTools },
    closed,
  ),
  graded_prompt: Type.Object({ prompt: textOrTurns, reference: Type.Unknown(), ...ofTools }, closed),
} as const satisfies Record<DatasetFormat, unknown>;

export type MessagesRow = Static<(typeof DatasetRow)['messages']>;
type PromptCompletionRow = Static<(typeof DatasetRow)['prompt_completion']>;
type InstructionRow = Static<(typeof DatasetRow)['instruction']>;
type TextRow = Static<(typeof DatasetRow)['text']>;
export type FeaturesRow = Static<(typeof DatasetRow)['features']>;
export type TextualRow = MessagesRow | PromptCompletionRow | InstructionRow | TextRow;
export type PreferenceRow = Static<(typeof DatasetRow)['preference']>;
export type OpenAiPreferenceRow = Static<(typeof DatasetRow)['openai_preference']>;
/** A prompt with a chosen and a rejected answer. */
export type PairRow = PreferenceRow | OpenAiPreferenceRow;
/** A prompt with an answer, and whether it is wanted. */
export type LabelledRow = Static<(typeof DatasetRow)['labelled_completion']>;
/** A prompt, with what graders compare its answers with. */
export type GradedPromptRow = Static<(typeof DatasetRow)['graded_prompt']>;

/** Most characters of a line that `GET /datasets/:id/rows` shows. */
export const MAX_ROW_CHARACTERS = 16_384;
/** Most tokens of a row that it shows. */
export const MAX_ROW_TOKENS = 4_096;
/** Limits, for docs/limits.md. */
export const rowViewLimits = {
  tokens: { value: MAX_ROW_TOKENS, unit: 'tokens', beyond: 'only the first are shown' },
  characters: { value: MAX_ROW_CHARACTERS, unit: 'characters', beyond: 'only the first are shown' },
};

/** Query of `GET /datasets/:id/rows`. */
export const DatasetRowsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        default: 0,
        description: 'Number of a line: the rows after it are returned.',
      }),
    ),
    base_model: Type.Optional(
      Type.String({ ...ModelName, description: 'Show the rows as tokens of this base model, as a job trains them.' }),
    ),
    // Without defaults, which the api would fill in: both are refused without base_model.
    max_seq_length: Type.Optional(
      Type.Integer({
        minimum: 2,
        maximum: MAX_SEQ_LENGTH,
        description: 'As in a job, with the same default. With base_model.',
      }),
    ),
    on_overflow: Type.Optional(
      Type.Enum([...ON_OVERFLOW], { description: 'As in a job, with the same default. With base_model.' }),
    ),
    completion_format: Type.Optional(
      Type.Enum([...COMPLETION_FORMATS], { description: 'As in a job, with the same default. With base_model.' }),
    ),
  },
  closed,
);
export type DatasetRowsQuery = Static<typeof DatasetRowsQuery>;

export const RowToken = Type.Object(
  {
    id: Type.Integer({ minimum: 0 }),
    text: Type.String({
      description: 'All texts together are the text of the row. Empty for a token that is only a part of a character.',
    }),
    trained: Type.Boolean({ description: 'Whether it is a target of the loss.' }),
  },
  closed,
);
export type RowToken = Static<typeof RowToken>;

/** A row as a model sees it. */
export const RowTokens = Type.Object(
  {
    total: count('Tokens of the whole row.'),
    trained: count('Targets of the loss, in all sequences.'),
    outcome: Type.Enum(['complete', 'refused', 'dropped', 'truncated', 'split'], {
      description:
        'What a job with these settings does with the row. complete: it is trained on as it is. refused: it is a fault of the job, by on_overflow error.',
    }),
    sequences: Type.Array(
      Type.Object(
        { start: count('Number of its first token in the row, from 0.'), tokens: count('Its tokens.') },
        closed,
      ),
      { description: 'The parts of the row that are trained on.' },
    ),
    data: Type.Array(RowToken, { description: `The first ${MAX_ROW_TOKENS.toLocaleString('en')} tokens.` }),
  },
  { $id: 'RowTokens', ...closed },
);
export type RowTokens = Static<typeof RowTokens>;

/** One row of a dataset. */
export const DatasetRowView = Type.Object(
  {
    line: Type.Integer({ minimum: 1, description: 'Its line in the uploaded file.' }),
    text: Type.String({
      description: `The line as it was uploaded, up to ${MAX_ROW_CHARACTERS.toLocaleString('en')} characters.`,
    }),
    characters: count('Of the whole line.'),
    faults: Type.Array(Fault, { description: 'Why the row cannot be trained on; without base_model always empty.' }),
    tokens: Nullable(RowTokens, {
      description:
        'Null without base_model, for rows of numbers, and for a row that cannot be tokens. Of a pair: the prompt with the chosen answer.',
    }),
    /** Only of a pair: the prompt with the rejected answer. */
    rejected_tokens: Type.Optional(RowTokens),
    label: Type.Optional(
      Type.Boolean({ description: 'Whether the answer is wanted. Only of an answer with a label.' }),
    ),
  },
  { $id: 'DatasetRowView', ...closed },
);
export type DatasetRowView = Static<typeof DatasetRowView>;

/** `GET /datasets/:id/rows`. */
export const DatasetRowPage = Type.Object(
  {
    object: Type.Literal('dataset_rows'),
    dataset: DatasetId,
    base_model: Nullable(ModelName),
    data: Type.Array(DatasetRowView),
    has_more: Type.Boolean(),
    next: Nullable(Type.Integer(), { description: 'Send it as `after` for the next page.' }),
  },
  { $id: 'DatasetRowPage', ...closed },
);
export type DatasetRowPage = Static<typeof DatasetRowPage>;
