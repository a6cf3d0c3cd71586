import { type Static, Type } from 'typebox';
import { closed, JobId, Nullable } from './schema-parts.js';

/** Graders of one number each. */
const SIMPLE_GRADERS = ['string_check', 'regex', 'number', 'json_schema', 'text_similarity'] as const;
/** All graders: `multi` makes one number of several, `webhook` asks a service of the job's owner, `score_model` a model. */
const GRADER_TYPES = [...SIMPLE_GRADERS, 'multi', 'webhook', 'score_model'] as const;
export type GraderType = (typeof GRADER_TYPES)[number];
const STRING_OPERATIONS = ['eq', 'ne', 'like', 'ilike'] as const;
const SIMILARITY_METRICS = ['fuzzy_match', 'rouge_1', 'rouge_2', 'rouge_l'] as const;

/** Bounds of what is sent to a judge, in characters. */
export const JUDGE_CHARACTERS = { template: 4096, pattern: 1024, url: 2048, model: 256 } as const;
const {
  template: MAX_TEMPLATE_CHARACTERS,
  pattern: MAX_PATTERN_CHARACTERS,
  url: MAX_URL_CHARACTERS,
  model: MAX_MODEL_CHARACTERS,
} = JUDGE_CHARACTERS;
const MAX_FORMULA_CHARACTERS = 1024;
const MAX_GRADERS = 16;
/** A score is a reward, which may be a million at most. */
const MAX_SCORE = 1e6;
/** The time for one request to a judge or a webhook, in seconds. */
export const JUDGE_SECONDS = { usual: 60, most: 600 } as const;
const { usual: DEFAULT_TIMEOUT_SECONDS, most: MAX_TIMEOUT_SECONDS } = JUDGE_SECONDS;
/** Limits, for docs/limits.md. */
export const graderLimits = {
  graders: { value: MAX_GRADERS, unit: 'graders in one of type multi', beyond: '400 `invalid_request`' },
  template: { value: MAX_TEMPLATE_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
  pattern: { value: MAX_PATTERN_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
  formula: { value: MAX_FORMULA_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
  timeout: { value: MAX_TIMEOUT_SECONDS, unit: 's', beyond: '400 `invalid_request`' },
};

const template = (description: string) =>
  Type.Optional(Type.String({ maxLength: MAX_TEMPLATE_CHARACTERS, description }));

const settings = {
  input: template(
    'The text that is graded: a template with {{sample.output_text}}, which is the default, or {{sample.output_json.field}}, a field of an answer that is JSON. score_model: the message to the model, with the rubric, the answer and fields of the row, such as {{item.reference}}.',
  ),
  reference: template(
    'What it is compared with, such as {{item.reference}}: string_check, text_similarity, number, whose value must be a number.',
  ),
  operation: Type.Optional(
    Type.Enum([...STRING_OPERATIONS], {
      description: 'string_check: equal, not equal, contains the reference; ilike: contains it in any letter case.',
    }),
  ),
  pattern: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: MAX_PATTERN_CHARACTERS,
      description:
        'regex: matches anywhere unless it has ^ and $. score_model: where the score is in what the model says, its first group or all of it; the last number, where it is left out. Syntax of RE2: linear time, no look-around.',
    }),
  ),
  ignore_case: Type.Optional(Type.Boolean({ description: 'regex, score_model. Default: false.' })),
  tolerance: Type.Optional(
    Type.Number({ minimum: 0, description: 'number: how far the last number of the input may be. Default: 0.' }),
  ),
  schema: Type.Optional(
    Type.Unknown({
      description: 'json_schema: the input must be JSON of it. The keywords are those of response_format.',
    }),
  ),
  evaluation_metric: Type.Optional(
    Type.Enum([...SIMILARITY_METRICS], {
      description:
        'text_similarity, 0 to 1. fuzzy_match: share of characters in the longest common subsequence. rouge_1, rouge_2, rouge_l: F-measure of words, of pairs of them, of their longest common subsequence.',
    }),
  ),
};

/** A grader that gives one number for an answer: 1 or 0, or a similarity. */
export const SimpleGrader = Type.Object(
  { type: Type.Enum([...SIMPLE_GRADERS]), ...settings },
  { $id: 'SimpleGrader', ...closed },
);
export type SimpleGrader = Static<typeof SimpleGrader>;

/** A grader, which gives answers their rewards. Names are those of OpenAI's graders, where there are such. */
export const Grader = Type.Object(
  {
    type: Type.Enum([...GRADER_TYPES], {
      description:
        'string_check, regex, number, json_schema: 1 or 0. text_similarity: 0 to 1. multi: a formula of several. webhook: what a service of yours answers. score_model: what a model says of it.',
    }),
    ...settings,
    graders: Type.Optional(
      Type.Record(Type.String({ pattern: '^[a-z_][a-z0-9_]{0,63}$' }), SimpleGrader, {
        ...closed,
        maxProperties: MAX_GRADERS,
        description: 'multi: other graders, by the names that the formula has.',
      }),
    ),
    calculate_output: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_FORMULA_CHARACTERS,
        description:
          'multi: names of graders, numbers, + - * / ( ), min, max and abs, such as 0.8 * right + 0.2 * form.',
      }),
    ),
    url: Type.Optional(
      Type.String({
        minLength: 9,
        maxLength: MAX_URL_CHARACTERS,
        description:
          'webhook: the https:// address that receives answers and returns their rewards. score_model: the address of a server with the OpenAI API, such as https://api.openai.com/v1, which the operator has to name in JUDGE_SERVERS; the models of this service, where it is left out.',
      }),
    ),
    model: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_MODEL_CHARACTERS,
        description: 'score_model: the model that is asked, as chat requests name it.',
      }),
    ),
    range: Type.Optional(
      Type.Array(Type.Number({ minimum: -MAX_SCORE, maximum: MAX_SCORE }), {
        minItems: 2,
        maxItems: 2,
        description: 'score_model: the least and the highest score. Another number fails. Default: [0, 1].',
      }),
    ),
    timeout_seconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_TIMEOUT_SECONDS,
        description: `webhook, score_model: how long one request may take; it is made up to three times. Default: ${DEFAULT_TIMEOUT_SECONDS}.`,
      }),
    ),
  },
  { $id: 'Grader', ...closed },
);
export type Grader = Static<typeof Grader>;

/** A grader outside of this service's trainers, which an api asks: the webhook of the job's owner, or a model. */
export type AskedGrader = AskedWebhook | Judge;

/** The webhook of a grader, with its default. */
export interface AskedWebhook {
  kind: 'webhook';
  url: string;
  timeoutSeconds: number;
}

/** A model that scores answers, with the defaults. */
export interface Judge {
  kind: 'judge';
  /** The base address of a server with the OpenAI API; null: this service's own models. */
  url: string | null;
  model: string;
  /** See {@link Grader}; null: the last number is the score. */
  pattern: string | null;
  ignoreCase: boolean;
  range: readonly [least: number, highest: number];
  timeoutSeconds: number;
}

/** @returns null for a grader that calculates its rewards itself, or that lacks what it needs */
export function askedGraderOf(grader: Grader): AskedGrader | null {
  const { type, url, model, pattern = null, range, ignore_case: ignoreCase = false } = grader;
  const timeoutSeconds = grader.timeout_seconds ?? DEFAULT_TIMEOUT_SECONDS;
  if (type === 'webhook' && url !== undefined) return { kind: 'webhook', url, timeoutSeconds };
  if (type !== 'score_model' || model === undefined) return null;
  const [least = 0, highest = 1] = range ?? [];
  return { kind: 'judge', url: url ?? null, model, pattern, ignoreCase, range: [least, highest], timeoutSeconds };
}

/** Answers of one request to the webhook of a grader. */
export const MAX_GRADED_AT_ONCE = 64;
/** Answers that a model scores before their scores are kept, so that few are asked for again after a crash. */
export const MAX_JUDGED_AT_ONCE = 8;
/** Bytes of their rows and texts, unless one answer alone has more. */
export const MAX_GRADED_BYTES = 2 ** 20;
/** Bytes of the answer of a webhook. */
export const MAX_REWARDS_BYTES = 2 ** 16;
/** Limits, for docs/limits.md. */
export const gradingLimits = {
  answers: { value: MAX_GRADED_AT_ONCE, unit: 'answers', beyond: 'another request' },
  bytes: { value: MAX_GRADED_BYTES, unit: 'bytes', beyond: 'another request' },
  rewards: { value: MAX_REWARDS_BYTES, unit: 'bytes', beyond: '`grader_failed`' },
};

/** A sampled answer, as a model receives it: a message with the rubric. */
export interface JudgedItem {
  /** The line of the row in its dataset, from 1. */
  line: number;
  message: string;
}

/** A sampled answer, as the webhook of a grader receives it. */
export const GradedItem = Type.Object(
  {
    line: Type.Integer({ description: 'The line of the row in its dataset, from 1.' }),
    prompt: Type.Unknown({ description: 'As in the row: a text, or messages.' }),
    reference: Type.Unknown({ description: 'As in the row.' }),
    completion: Type.String({ description: 'The answer, without special tokens.' }),
    completion_tokens: Type.Integer({ description: 'Its tokens, with the one that ends it.' }),
    finish_reason: Type.Enum(['stop', 'length'], { description: 'length: max_completion_tokens cut it.' }),
  },
  { $id: 'GradedItem', ...closed },
);
export type GradedItem = Static<typeof GradedItem>;

/** The body of a request to the webhook of a grader, in the form that Standard Webhooks recommends. */
export const GradingBody = Type.Object(
  {
    type: Type.Enum(['answers.sampled']),
    timestamp: Type.String({ description: 'When the answers were sent to be graded: RFC 3339, UTC.' }),
    data: Type.Object(
      {
        job: JobId,
        step: Nullable(Type.Integer(), { description: 'The step that trains on them, from 1; null: an evaluation.' }),
        items: Type.Array(GradedItem, { maxItems: MAX_GRADED_AT_ONCE }),
      },
      closed,
    ),
  },
  { $id: 'GradingBody', ...closed },
);
export type GradingBody = Static<typeof GradingBody>;

/** Answers to be graded together, as a training asks for it. */
export interface GradingBatch {
  step: number | null;
  /** Each the JSON of a {@link GradedItem} or a {@link JudgedItem}, whose numbers are written as in its row. */
  items: string[];
}

/** The answer of the webhook of a grader. Other fields are ignored. */
export const GradingAnswer = Type.Object(
  {
    rewards: Type.Array(Type.Number(), {
      maxItems: MAX_GRADED_AT_ONCE,
      description: 'A number from -1e6 to 1e6 for each item, in their order.',
    }),
  },
  { $id: 'GradingAnswer' },
);
export type GradingAnswer = Static<typeof GradingAnswer>;

/** The end of a grading: a reward for each answer, with the tokens that a judge has read and written for them; or why there are none, for the owner of the job. */
export type GradingOutcome =
  | { kind: 'graded'; rewards: number[]; judgeTokens?: number }
  | { kind: 'failed'; message: string };
