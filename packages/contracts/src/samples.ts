import { type Static, Type } from 'typebox';
import { Message } from './message.js';
import { closed, Nullable } from './schema-parts.js';

/** Rounds of samples in a job. All are in its manifest. */
export const MAX_SAMPLE_ROUNDS = 100;
/** Maximum tokens of a prompt with its answer. */
export const MAX_SAMPLE_TOKENS = 4096;
/** Maximum UTF-16 units of an answer, which ends there. */
export const MAX_SAMPLE_TEXT = 2048;

const MAX_PROMPTS = 8;
const MAX_HELD_OUT_ROWS = 256;
const MAX_PROMPT_CHARACTERS = 16_384;
const MAX_PROMPT_MESSAGES = 64;
const MAX_ANSWER_TOKENS = 512;
/** Limits, for docs/limits.md. */
export const sampleLimits = {
  prompts: {
    value: MAX_PROMPTS,
    unit: `prompts of up to ${MAX_PROMPT_CHARACTERS.toLocaleString('en-US')} characters or ${MAX_PROMPT_MESSAGES} messages`,
    beyond: '400 `invalid_request`',
  },
  tokens: { value: MAX_SAMPLE_TOKENS, unit: 'tokens', beyond: '422 `invalid_job`' },
  answer: {
    value: MAX_ANSWER_TOKENS,
    unit: `tokens and ${MAX_SAMPLE_TEXT.toLocaleString('en-US')} characters`,
    beyond: 'it is cut; 400 `invalid_request` for a higher `max_tokens`',
  },
  rounds: { value: MAX_SAMPLE_ROUNDS, unit: 'times', beyond: '422 `invalid_job`' },
  heldOut: { value: MAX_HELD_OUT_ROWS, unit: 'held-out rows', beyond: '400 `invalid_request`' },
};

const promptText = { minLength: 1, maxLength: MAX_PROMPT_CHARACTERS };
const SamplePrompt = Type.Union([
  Type.String(promptText),
  Type.Array(
    Type.Object({ ...Message.properties, content: Type.String({ maxLength: promptText.maxLength }) }, closed),
    {
      minItems: 1,
      maxItems: MAX_PROMPT_MESSAGES,
    },
  ),
]);
/** A prompt as in the rows of the dataset, or a conversation whose next turn is wanted. */
export type SamplePrompt = Static<typeof SamplePrompt>;

const sampleFields = {
  prompts: Type.Array(SamplePrompt, {
    maxItems: MAX_PROMPTS,
    default: [],
    description:
      'At least one, unless held_out_rows is set. A text is a prompt as in the rows of the dataset: of format `text` it is continued, otherwise it is the turn of a user. ' +
      'A list of messages is a conversation whose next turn the model writes.',
  }),
  held_out_rows: Type.Integer({
    minimum: 0,
    maximum: MAX_HELD_OUT_ROWS,
    default: 0,
    description:
      'So many held-out rows are answered, too, the first ones, and compared with what the rows say: exact match, F1 and ROUGE-L. ' +
      'Needs rows with a prompt and an answer, and validation.',
  }),
  every_steps: Nullable(Type.Integer({ minimum: 1, maximum: 10_000_000 }), {
    default: null,
    description: `Null: samples only before and after training. At most ${MAX_SAMPLE_ROUNDS} times in a job.`,
  }),
  max_tokens: Type.Integer({
    minimum: 1,
    maximum: MAX_ANSWER_TOKENS,
    default: 64,
    description: 'Maximum tokens of an answer.',
  }),
  temperature: Type.Number({ minimum: 0, maximum: 2, default: 0, description: '0: always the most probable token.' }),
  top_p: Type.Number({
    exclusiveMinimum: 0,
    maximum: 1,
    default: 1,
    description: 'Only the most probable tokens that together have this probability. Draws depend on training.seed.',
  }),
};

/** The questions that the model is asked while it is trained. */
export const SampleSettings = Type.Object(sampleFields, { $id: 'SampleSettings', ...closed });
export type SampleSettings = Static<typeof SampleSettings>;

export const SampleRequest = Type.Object(
  {
    prompts: Type.Optional(sampleFields.prompts),
    held_out_rows: Type.Optional(sampleFields.held_out_rows),
    every_steps: Type.Optional(sampleFields.every_steps),
    max_tokens: Type.Optional(sampleFields.max_tokens),
    temperature: Type.Optional(sampleFields.temperature),
    top_p: Type.Optional(sampleFields.top_p),
  },
  { $id: 'SampleRequest', ...closed },
);

/** An answer to a prompt of a job. */
export const Sample = Type.Object(
  {
    prompt: Type.Integer({ minimum: 0, description: 'Index of the prompt in `samples.prompts` of the job.' }),
    text: Type.String(),
    tokens: Type.Integer({ minimum: 0, description: 'Tokens of the answer, without the one that ends it.' }),
    finish_reason: Type.Enum(['stop', 'length'], {
      description: 'stop: the model ended its answer. length: it reached a limit.',
    }),
  },
  { $id: 'Sample', ...closed },
);
export type Sample = Static<typeof Sample>;

const meanScore = (description: string) => Type.Number({ minimum: 0, maximum: 1, description });

/** Answers to held-out rows compared with what the rows say: means over the rows. */
export const AnswerScores = Type.Object(
  {
    rows: Type.Integer({ minimum: 1, description: 'Held-out rows that were answered.' }),
    exact_match: meanScore('Share of the answers that are what the row says, but for blanks around it.'),
    f1: meanScore("Words in common, as SQuAD's F1 and the F-measure of ROUGE-1, in lower case."),
    rouge_l: meanScore('The F-measure of ROUGE-L: the longest common subsequence of words.'),
  },
  { $id: 'AnswerScores', ...closed },
);
export type AnswerScores = Static<typeof AnswerScores>;

/** The answers to all prompts at one step. */
export const SampleRound = Type.Object(
  {
    step: Type.Integer({
      minimum: 0,
      description: '0: the base model, or the adapter of `init_from`, before training.',
    }),
    samples: Type.Array(Sample),
    scores: Type.Optional(AnswerScores),
  },
  { $id: 'SampleRound', ...closed },
);
export type SampleRound = Static<typeof SampleRound>;
