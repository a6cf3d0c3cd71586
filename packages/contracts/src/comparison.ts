import { type Static, Type } from 'typebox';
import { MAX_NAME_CHARACTERS } from './details.js';
import { JUDGE_CHARACTERS, JUDGE_SECONDS } from './grading.js';
import { JobFailure } from './job.js';
import { Page } from './page.js';
import {
  AdapterId,
  COMPLETION_FORMATS,
  ComparisonId,
  closed,
  count,
  DatasetId,
  Label,
  ModelName,
  Nullable,
  Owner,
} from './schema-parts.js';

/** Rows of one comparison, and those of one that names no number. */
const MAX_ROWS = 500;
const DEFAULT_ROWS = 100;
const MAX_ANSWER_TOKENS = 2048;
const DEFAULT_ANSWER_TOKENS = 256;
/** Characters of a row that are kept. What is longer is cut before a judge sees it, so that what is kept is what was judged. */
export const COMPARED_CHARACTERS = { prompt: 4096, reference: 4096, answer: 4096, verdict: 1024 } as const;
/** Limits, for docs/limits.md. */
export const comparisonLimits = {
  rows: { value: MAX_ROWS, unit: 'rows', beyond: '400 `invalid_request`' },
  tokens: { value: MAX_ANSWER_TOKENS, unit: 'tokens of an answer', beyond: '400 `invalid_request`' },
  answer: { value: COMPARED_CHARACTERS.answer, unit: 'characters', beyond: 'it is cut before it is judged' },
  prompt: { value: COMPARED_CHARACTERS.prompt, unit: 'characters', beyond: 'the judge gets its end' },
  verdict: { value: COMPARED_CHARACTERS.verdict, unit: 'characters', beyond: 'the end of what the judge says is kept' },
};

/** The model that says which of two answers is better. */
export const PairJudge = Type.Object(
  {
    model: Type.String({
      minLength: 1,
      maxLength: JUDGE_CHARACTERS.model,
      description: 'The model that is asked, as chat requests name it.',
    }),
    url: Type.Optional(
      Type.String({
        minLength: 9,
        maxLength: JUDGE_CHARACTERS.url,
        description:
          'The address of a server with the OpenAI API, which the operator has to name in JUDGE_SERVERS; the models of this service, where it is left out.',
      }),
    ),
    rubric: Type.String({
      minLength: 1,
      maxLength: JUDGE_CHARACTERS.template,
      description:
        'What makes an answer the better one. {{item.reference}} stands for the own answer of the row. The service adds the prompt, both answers and how to say the verdict.',
      examples: ['Prefer the answer that agrees with {{item.reference}}. If both do, prefer the shorter one.'],
    }),
    pattern: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: JUDGE_CHARACTERS.pattern,
        description:
          'Where the verdict is in what the judge says: in the first group of its last match, or all of it. It must be A, B or tie (C is one). Syntax of RE2. Default: after the word Verdict, or all that is said.',
      }),
    ),
    timeout_seconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: JUDGE_SECONDS.most,
        description: `How long one request may take; it is made up to three times. Default: ${JUDGE_SECONDS.usual}.`,
      }),
    ),
  },
  { $id: 'PairJudge', ...closed },
);
export type PairJudge = Static<typeof PairJudge>;

const seed = { minimum: 0, maximum: Number.MAX_SAFE_INTEGER };

/** The body of `POST /comparisons`. */
export const ComparisonRequest = Type.Object(
  {
    name: Type.Optional(Label(MAX_NAME_CHARACTERS, 'A name of your choice.')),
    models: Type.Array(Type.String({ minLength: 1, maxLength: 200 }), {
      minItems: 2,
      maxItems: 2,
      description:
        'a and b: each the id of an adapter, a name that points to one, a fine-tuned model (ft:…), a base model, or the id of a dataset (ds_…) with stored answers of another service.',
      examples: [['ad_0123456789abcdef01234567', 'SmolLM2-135M-Instruct']],
    }),
    dataset: Type.String({ ...DatasetId, description: 'Its prompts are answered.' }),
    judge: PairJudge,
    rows: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_ROWS,
        description: `Rows that are drawn of the dataset. Default: ${DEFAULT_ROWS}.`,
      }),
    ),
    max_tokens: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_ANSWER_TOKENS,
        description: `Maximum tokens of an answer. Default: ${DEFAULT_ANSWER_TOKENS}.`,
      }),
    ),
    temperature: Type.Optional(
      Type.Number({ minimum: 0, maximum: 2, description: 'Of the answers. Default: 0, the most probable tokens.' }),
    ),
    seed: Type.Optional(Type.Integer({ ...seed, description: 'Of the rows and the answers. Default: 0.' })),
  },
  { $id: 'ComparisonRequest', ...closed },
);
export type ComparisonRequest = Static<typeof ComparisonRequest>;

/** The defaults of a request. */
export const COMPARISON_DEFAULTS = {
  name: null,
  rows: DEFAULT_ROWS,
  max_tokens: DEFAULT_ANSWER_TOKENS,
  temperature: 0,
  seed: 0,
} as const;

/** One of the two sides, as it was when the comparison was asked for: a name that is moved later changes nothing. */
export const ComparedModel = Type.Object(
  {
    name: Type.String({ description: 'As the request has it.' }),
    base_model: Nullable(ModelName, { description: 'Null for stored answers.' }),
    adapter: Nullable(AdapterId, { description: 'Null for a base model, and for stored answers.' }),
    answers: Nullable(DatasetId, {
      description: 'The dataset with the stored answers; null for a model of this service.',
    }),
    completion_format: Nullable(Type.Enum([...COMPLETION_FORMATS]), {
      description: 'The form in which it gets a prompt that is a text: that of its training. Null for stored answers.',
    }),
  },
  { $id: 'ComparedModel', ...closed },
);
export type ComparedModel = Static<typeof ComparedModel>;

export const COMPARISON_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export type ComparisonStatus = (typeof COMPARISON_STATUSES)[number];

/** The rows so far. */
export const ComparisonProgress = Type.Object(
  {
    rows: count('Rows that are judged or have failed.'),
    total: Type.Integer({
      minimum: 0,
      description: 'Rows that are compared; fewer than asked for if the dataset has fewer.',
    }),
  },
  { $id: 'ComparisonProgress', ...closed },
);
export type ComparisonProgress = Static<typeof ComparisonProgress>;

const share = (description: string) => Nullable(Type.Number({ minimum: 0, maximum: 1 }), { description });

/** The outcome of the rows that were judged, from the side of a. */
export const ComparisonResult = Type.Object(
  {
    rows: count('Rows that were judged: wins, losses and ties.'),
    wins: count('Rows whose answer of a was preferred in both orders.'),
    losses: count('Rows whose answer of b was preferred in both orders.'),
    ties: count('The others, with those whose answers are the same.'),
    identical: count('Ties of two answers that are the same, of which no judge was asked.'),
    failed: count('Rows without an answer or a verdict, which count nowhere else.'),
    win_rate: share('(wins + ties / 2) / rows. Null: no row was judged.'),
    interval: Nullable(Type.Array(Type.Number({ minimum: 0, maximum: 1 }), { minItems: 2, maxItems: 2 }), {
      description:
        "The 95 % interval of win_rate: Wilson's for the wins among the rows that are no ties, on the scale of win_rate. Null: all are ties.",
    }),
    verdict: Type.Enum(['a', 'b', 'undecided'], {
      description: 'The better model, if the interval is wholly on its side of one half.',
    }),
    position_bias: share(
      'Of the rows of which the judge was asked, those in which it preferred the same place in both orders. Null: it was asked of none.',
    ),
    order_decided: count('These rows.'),
    tokens: Type.Object(
      {
        answers: Type.Array(Type.Integer({ minimum: 0 }), {
          minItems: 2,
          maxItems: 2,
          description: 'Written by a and by b; 0 for stored answers.',
        }),
        judge: count('Read and written by the judge, as its server counts them.'),
      },
      closed,
    ),
    failures: Type.Array(Type.Object({ reason: Type.String(), rows: Type.Integer({ minimum: 1 }) }, closed), {
      description: 'Why rows have failed, the most frequent reasons first.',
    }),
  },
  { $id: 'ComparisonResult', ...closed },
);
export type ComparisonResult = Static<typeof ComparisonResult>;

/** Two models over the rows of a dataset, judged by a third. */
export const Comparison = Type.Object(
  {
    id: ComparisonId,
    object: Type.Literal('comparison'),
    owner: Owner,
    name: Nullable(Type.String()),
    models: Type.Array(ComparedModel, { minItems: 2, maxItems: 2, description: 'a and b.' }),
    dataset: DatasetId,
    judge: PairJudge,
    rows: Type.Integer({ minimum: 1 }),
    max_tokens: Type.Integer({ minimum: 1 }),
    temperature: Type.Number(),
    seed: Type.Integer(seed),
    status: Type.Enum([...COMPARISON_STATUSES]),
    progress: Nullable(ComparisonProgress, { description: 'Null until its rows are read.' }),
    result: Nullable(ComparisonResult, {
      description: 'Once it has ended; of one that failed or was cancelled, of the rows before.',
    }),
    error: Nullable(JobFailure),
    created_at: Type.String(),
    started_at: Nullable(Type.String()),
    ended_at: Nullable(Type.String()),
  },
  { $id: 'Comparison', ...closed },
);
export type Comparison = Static<typeof Comparison>;
export const ComparisonPage = Page(Comparison, 'ComparisonPage');

const ComparedAnswer = Type.Object(
  {
    text: Type.String(),
    tokens: count('0 for a stored answer.'),
    is_cut: Type.Boolean({ description: 'True if max_tokens or the limit of characters has cut it.' }),
  },
  closed,
);
export type ComparedAnswer = Static<typeof ComparedAnswer>;

const RowVerdict = Type.Object(
  {
    prefers: Type.Enum(['a', 'b', 'tie'], { description: 'The model, wherever its answer stood.' }),
    text: Type.String({ description: 'What the judge said.' }),
    tokens: count('Read and written by the judge.'),
  },
  closed,
);
export type RowVerdict = Static<typeof RowVerdict>;

/** A row of a comparison, side by side. */
export const ComparisonRow = Type.Object(
  {
    number: Type.Integer({ minimum: 1, description: 'Its place in the comparison.' }),
    line: Type.Integer({ minimum: 1, description: 'Its line in the dataset.' }),
    prompt: Type.String({ description: 'Its turns as a text.' }),
    reference: Nullable(Type.String(), { description: 'The own answer of the row; null: it has none.' }),
    answers: Type.Array(Nullable(ComparedAnswer), {
      minItems: 2,
      maxItems: 2,
      description: 'Of a and of b; null while there is none.',
    }),
    verdicts: Type.Array(Nullable(RowVerdict), {
      minItems: 2,
      maxItems: 2,
      description:
        'With the answer of a first, and with that of b first. Null: not asked yet, or the answers are the same.',
    }),
    outcome: Nullable(Type.Enum(['win', 'loss', 'tie', 'failed']), {
      description: 'win: that of a was preferred in both orders. Null: it is not finished.',
    }),
    error: Nullable(Type.String(), { description: 'Why it has failed.' }),
  },
  { $id: 'ComparisonRow', ...closed },
);
export type ComparisonRow = Static<typeof ComparisonRow>;

/** Query of `GET /comparisons/:id/rows`. */
export const ComparisonRowsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_ROWS,
        default: 0,
        description: 'Number of a row: those after it are returned.',
      }),
    ),
  },
  closed,
);
export type ComparisonRowsQuery = Static<typeof ComparisonRowsQuery>;

/** Answer of `GET /comparisons/:id/rows`: the rows that have been begun. */
export const ComparisonRowPage = Type.Object(
  {
    data: Type.Array(ComparisonRow),
    has_more: Type.Boolean(),
    next: Nullable(Type.Integer(), { description: 'Send it as `after` for the next page.' }),
  },
  { $id: 'ComparisonRowPage', ...closed },
);
export type ComparisonRowPage = Static<typeof ComparisonRowPage>;
