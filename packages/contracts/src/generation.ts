import { type Static, type TSchema, Type } from 'typebox';
import type { ErrorCode } from './error.js';
import { ChatMessage, Tools } from './message.js';
import { AdapterId, closed, ModelName, Nullable, SnapshotId } from './schema-parts.js';

/** A request for text or tokens, as the api sends it to a worker: checked, and with every default filled in. */
export const GenerationRequest = Type.Object(
  {
    base_model: ModelName,
    /** An adapter, or the snapshot of a model in training. */
    adapter: Nullable(Type.Union([AdapterId, SnapshotId])),
    input: Type.Union([
      Type.Object(
        {
          kind: Type.Literal('chat'),
          messages: Type.Array(ChatMessage),
          tools: Nullable(Tools),
          /** Names of tools: the answer is a call of one of them. Null: it is what the model writes. */
          must_call: Nullable(Type.Array(Type.String(), { minItems: 1 })),
          /** True if the answer ends after its first call. */
          one_call: Type.Boolean(),
        },
        closed,
      ),
      Type.Object(
        {
          kind: Type.Literal('text'),
          prompts: Type.Array(Type.Union([Type.String(), Type.Array(Type.Integer({ minimum: 0 }))])),
          /** True if the answer starts with the prompt. */
          echo: Type.Boolean(),
        },
        closed,
      ),
      /** The answer is tokens with their log-probabilities, not text. */
      Type.Object(
        {
          kind: Type.Literal('tokens'),
          prompt: Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 }),
          /** Tokens that end a choice; the one that does is part of it. */
          stop_tokens: Type.Array(Type.Integer({ minimum: 0 })),
          /** True if the model's own end of text ends a choice, too. */
          ends_itself: Type.Boolean(),
          /** The number of alternatives reported of each token of the prompt; null: nothing of the prompt. */
          prompt_logprobs: Nullable(Type.Integer({ minimum: 0 })),
          /** The number of last tokens of the prompt that are reported; null: all. */
          prompt_last: Nullable(Type.Integer({ minimum: 1 })),
        },
        closed,
      ),
    ]),
    /** The JSON schema of the answers; null: any text. */
    schema: Nullable(Type.Unknown()),
    /** Answers to each prompt. */
    n: Type.Integer({ minimum: 1 }),
    /** Maximum tokens of each answer. */
    max_tokens: Type.Integer({ minimum: 0 }),
    temperature: Type.Number({ minimum: 0 }),
    top_p: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
    /** 0: all. */
    top_k: Type.Integer({ minimum: 0 }),
    min_p: Type.Number({ minimum: 0, maximum: 1 }),
    presence_penalty: Type.Number(),
    frequency_penalty: Type.Number(),
    repetition_penalty: Type.Number({ exclusiveMinimum: 0 }),
    seed: Type.Integer(),
    /** Texts that end a choice. They are no part of a text, but their tokens are of a choice of tokens. */
    stop: Type.Array(Type.String({ minLength: 1 })),
    /** The number of alternatives reported of each token; null: none, and of text no log-probabilities at all. */
    logprobs: Nullable(Type.Integer({ minimum: 0 })),
  },
  closed,
);
export type GenerationRequest = Static<typeof GenerationRequest>;

/** A token and its log-probability; -Infinity is sent as -9999, as the OpenAI API does. */
export interface TokenLogprob {
  text: string;
  /** UTF-8; null for a part of a character. */
  bytes: number[] | null;
  /** null for the first token of a prompt. */
  logprob: number | null;
}

export interface GeneratedToken extends TokenLogprob {
  /** Its start in the text of its choice, in characters (Unicode code points). */
  offset: number;
  /** The most likely tokens at this place. */
  top: TokenLogprob[];
}

/** Tokens in their order. */
export interface ScoredTokens {
  ids: number[];
  /**
   * Natural log-probabilities under the model: before temperature, penalties and all that limits which tokens are drawn. At least
   * -9999; null for the first token of a prompt.
   */
  logprobs: (number | null)[];
  /** The most likely tokens in the place of each, the first first; empty if none were asked for. */
  top: [id: number, logprob: number][][];
}

export type FinishReason = 'stop' | 'length';

/**
 * A part of the answer to a {@link GenerationRequest}. The last one is `end` or `failed`, and nothing follows it.
 *
 * - `start`: the precision in which the text is computed; before any text.
 * - `text`: more of a choice, with the tokens that start in it if log-probabilities were asked for.
 * - `call`: a choice calls a tool; its text is no part of `text`.
 * - `prompt-scored`: the next tokens of the prompt that are reported, of a request with tokens.
 * - `tokens`: more of a choice, of a request with tokens. The token that ends it is part of it.
 * - `finish`: a choice is complete.
 * - `end`: the answer is complete.
 * - `failed`: it will not be.
 */
export type GenerationChunk =
  | { type: 'start'; precision: 'float32' | 'bfloat16' }
  | { type: 'text'; choice: number; text: string; tokens: GeneratedToken[] }
  | { type: 'call'; choice: number; name: string; arguments: string }
  | { type: 'prompt-scored'; tokens: ScoredTokens }
  | { type: 'tokens'; choice: number; tokens: ScoredTokens }
  | { type: 'finish'; choice: number; reason: FinishReason }
  | { type: 'end'; prompt_tokens: number; completion_tokens: number }
  | { type: 'failed'; failure: GenerationFailure };

export interface GenerationFailure {
  code: ErrorCode;
  message: string;
  /** Field of the request. */
  param?: string | undefined;
  /** When to try again. */
  retry_after_seconds?: number | undefined;
}

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
    description:
      'A fine-tuned model (`ft:…`), the id of an adapter (`ad_…`), a name that points to one, or the name of a base model.',
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
