import { type TSchema, Type } from 'typebox';
import { closed, Nullable } from './schema-parts.js';

// What the two calls of the OpenAI API that generate text have in common. As there, null means the default.

/** The most alternatives of a token that are reported with their log-probabilities. */
export const MAX_TOP_LOGPROBS = 20;
/** The most answers of one request: prompts times `n`. */
export const MAX_CHOICES = 16;
const MAX_N = 8;
const MAX_TOP_K = 1_000_000;
const MAX_STOP_STRINGS = 4;
const MAX_STOP_CHARACTERS = 256;
/** Limits, for docs/limits.md. */
export const generationLimits = {
  answers: { value: MAX_CHOICES, unit: 'answers', beyond: '400 `invalid_request`' },
  n: { value: MAX_N, unit: 'answers', beyond: '400 `invalid_request`' },
  stopTexts: { value: MAX_STOP_STRINGS, unit: 'texts', beyond: '400 `invalid_request`' },
  stopText: { value: MAX_STOP_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
  alternatives: { value: MAX_TOP_LOGPROBS, unit: 'tokens', beyond: '400 `invalid_request`' },
};

const optional = <Schema extends TSchema>(schema: Schema, description: string) =>
  Type.Optional(Nullable(schema, { description }));
/** A field of the OpenAI API without an effect here: only the value that asks for nothing is taken. */
const neutral = <Schema extends TSchema>(schema: Schema, value: string) =>
  optional(schema, `Not supported: only ${value}.`);

const WITHOUT_EFFECT = 'Without effect.';

/** Fields of the OpenAI API about its storing, routing and accounting, which clients send and which change no answer. */
export const fieldsWithoutEffect = {
  store: optional(Type.Boolean(), `${WITHOUT_EFFECT} Answers are not stored.`),
  metadata: optional(
    Type.Record(Type.String({ pattern: '^.{1,64}$' }), Type.String({ maxLength: 512 }), {
      additionalProperties: false,
      maxProperties: 16,
    }),
    WITHOUT_EFFECT,
  ),
  service_tier: optional(Type.Enum(['auto', 'default', 'flex', 'scale', 'priority']), WITHOUT_EFFECT),
  safety_identifier: optional(Type.String({ maxLength: 1_000 }), WITHOUT_EFFECT),
  prompt_cache_key: optional(Type.String({ maxLength: 1_000 }), WITHOUT_EFFECT),
  prompt_cache_retention: optional(Type.Enum(['in_memory', 'in-memory', '24h']), WITHOUT_EFFECT),
  modalities: optional(Type.Array(Type.Literal('text'), { maxItems: 1 }), 'Not supported: only text.'),
};

const StopString = Type.String({ minLength: 1, maxLength: MAX_STOP_CHARACTERS });

/** Fields of both requests. */
export const generationFields = {
  model: Type.String({
    minLength: 1,
    maxLength: 200,
    description: 'A fine-tuned model (`ft:…`), the id of an adapter (`ad_…`), or the name of a base model.',
  }),
  temperature: optional(
    Type.Number({ minimum: 0, maximum: 2 }),
    'Divides the logits before a token is drawn. 0: always the most likely token. Default: 1.',
  ),
  top_p: optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
    'Draws among the most likely tokens that together have this probability. Default: 1.',
  ),
  n: optional(Type.Integer({ minimum: 1, maximum: MAX_N }), 'Answers to each prompt. Default: 1.'),
  seed: optional(
    Type.Integer({ minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }),
    'The same request with the same seed has the same answer, whatever else the machine does. Default: random.',
  ),
  stop: Type.Optional(
    Type.Union([StopString, Type.Array(StopString, { maxItems: MAX_STOP_STRINGS }), Type.Null()], {
      description: 'Texts that end the answer. They are not part of it.',
    }),
  ),
  stream: optional(Type.Boolean(), 'Whether the answer is sent in pieces, as server-sent events. Default: false.'),
  stream_options: optional(
    Type.Object(
      {
        include_usage: Type.Optional(
          Type.Boolean({ description: 'Whether a last piece, without choices, has the counts of tokens.' }),
        ),
      },
      closed,
    ),
    'Only with `stream`.',
  ),
  user: optional(Type.String({ maxLength: 1_000 }), WITHOUT_EFFECT),
  top_k: optional(
    Type.Integer({ minimum: -1, maximum: MAX_TOP_K }),
    'Draws among so many most likely tokens, before `top_p`. 0 or -1: all. Default: 0. Not in the OpenAI API; as in vLLM.',
  ),
  min_p: optional(
    Type.Number({ minimum: 0, maximum: 1 }),
    'Draws among tokens that are at least this many times as likely as the most likely one, after `top_p`. Default: 0. Not in the OpenAI API; as in transformers.',
  ),
  presence_penalty: optional(
    Type.Number({ minimum: -2, maximum: 2 }),
    'Subtracted from the logits of tokens that are in the answer. Default: 0.',
  ),
  frequency_penalty: optional(
    Type.Number({ minimum: -2, maximum: 2 }),
    'Subtracted from the logit of a token for each time that it is in the answer. Default: 0.',
  ),
  repetition_penalty: optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 10 }),
    'Above 1: the logits of tokens in the prompt and the answer are divided by it if positive, else multiplied. Default: 1. ' +
      'Not in the OpenAI API; as in transformers and vLLM.',
  ),
  logit_bias: neutral(Type.Object({}, closed), '{}'),
};

/** The first fields of an answer. */
export const answerHead = {
  id: Type.String(),
  created: Type.Integer({ description: 'Unix time in seconds.' }),
  model: Type.String(),
  system_fingerprint: Type.Optional(
    Type.String({ description: 'The precision in which the text was computed: fp_float32 or fp_bfloat16.' }),
  ),
};

/** Numbers of tokens. */
export const Usage = Type.Object(
  {
    prompt_tokens: Type.Integer({ minimum: 0 }),
    completion_tokens: Type.Integer({ minimum: 0 }),
    total_tokens: Type.Integer({ minimum: 0 }),
  },
  { $id: 'Usage', ...closed },
);
