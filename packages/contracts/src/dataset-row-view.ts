import { type Static, Type } from 'typebox';
import { Fault } from './error.js';
import { MAX_SEQ_LENGTH, ON_OVERFLOW } from './job.js';
import { COMPLETION_FORMATS, closed, count, DatasetId, ModelName, Nullable } from './schema-parts.js';

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
