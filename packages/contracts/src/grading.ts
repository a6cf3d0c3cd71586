import { type Static, Type } from 'typebox';
import { closed, JobId, Nullable } from './schema-parts.js';

/** Graders of one number each. */
const SIMPLE_GRADERS = ['string_check', 'regex', 'number', 'json_schema', 'text_similarity'] as const;
/** All graders: `multi` makes one number of several, `webhook` asks a service of the job's owner. */
const GRADER_TYPES = [...SIMPLE_GRADERS, 'multi', 'webhook'] as const;
export type GraderType = (typeof GRADER_TYPES)[number];
const STRING_OPERATIONS = ['eq', 'ne', 'like', 'ilike'] as const;
const SIMILARITY_METRICS = ['fuzzy_match', 'rouge_1', 'rouge_2', 'rouge_l'] as const;

const MAX_TEMPLATE_CHARACTERS = 4096;
const MAX_PATTERN_CHARACTERS = 1024;
const MAX_FORMULA_CHARACTERS = 1024;
const MAX_GRADERS = 16;
const MAX_URL_CHARACTERS = 2048;
/** The time for one request of a webhook. */
const DEFAULT_TIMEOUT_SECONDS = 60;
const MAX_TIMEOUT_SECONDS = 600;
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
    'The text that is graded: a template with {{sample.output_text}}, which is the default, or {{sample.output_json.field}}, a field of an answer that is JSON.',
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
      description: 'regex: matches anywhere unless it has ^ and $. Syntax of RE2: linear time, no look-around.',
    }),
  ),
  ignore_case: Type.Optional(Type.Boolean({ description: 'regex. Default: false.' })),
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
        'string_check, regex, number, json_schema: 1 or 0. text_similarity: 0 to 1. multi: a formula of several. webhook: what a service of yours answers.',
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
        description: 'webhook: the https:// address that receives answers and returns their rewards.',
      }),
    ),
    timeout_seconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_TIMEOUT_SECONDS,
        description: `webhook: how long one request may take; it is made up to three times. Default: ${DEFAULT_TIMEOUT_SECONDS}.`,
      }),
    ),
  },
  { $id: 'Grader', ...closed },
);
export type Grader = Static<typeof Grader>;

/** The webhook of a grader, with its default. */
export interface GraderWebhook {
  url: string;
  timeoutSeconds: number;
}

/** @returns null for a grader without one */
export function graderWebhookOf({ type, url, timeout_seconds: timeoutSeconds }: Grader): GraderWebhook | null {
  if (type !== 'webhook' || url === undefined) return null;
  return { url, timeoutSeconds: timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS };
}

/** Answers of one request to the webhook of a grader. */
export const MAX_GRADED_AT_ONCE = 64;
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
  /** Each the JSON of a {@link GradedItem}, whose numbers are written as in its row. */
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

/** The end of a grading: a reward for each answer, or why there are none, for the owner of the job. */
export type GradingOutcome = { kind: 'graded'; rewards: number[] } | { kind: 'failed'; message: string };
