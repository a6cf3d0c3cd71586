import { type Static, Type } from 'typebox';
import { closed, JobId, Nullable } from './schema-parts.js';

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
