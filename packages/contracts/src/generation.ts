import { type Static, Type } from 'typebox';
import type { ErrorCode } from './error.js';
import { ChatMessage, Tools } from './message.js';
import { AdapterId, closed, ModelName, Nullable } from './schema-parts.js';

/** A request for text, as the api sends it to a worker: checked, and with every default filled in. */
export const GenerationRequest = Type.Object(
  {
    base_model: ModelName,
    adapter: Nullable(AdapterId),
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
    stop: Type.Array(Type.String({ minLength: 1 })),
    /** The number of alternatives reported of each token; null: no log-probabilities at all. */
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

export type FinishReason = 'stop' | 'length';

/**
 * A part of the answer to a {@link GenerationRequest}. The last one is `end` or `failed`, and nothing follows it.
 *
 * - `start`: the precision in which the text is computed; before any text.
 * - `text`: more of a choice, with the tokens that start in it if log-probabilities were asked for.
 * - `call`: a choice calls a tool; its text is no part of `text`.
 * - `finish`: a choice is complete.
 * - `end`: the answer is complete.
 * - `failed`: it will not be.
 */
export type GenerationChunk =
  | { type: 'start'; precision: 'float32' | 'bfloat16' }
  | { type: 'text'; choice: number; text: string; tokens: GeneratedToken[] }
  | { type: 'call'; choice: number; name: string; arguments: string }
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
