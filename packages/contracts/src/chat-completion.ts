import { type Static, Type } from 'typebox';
import { answerHead, fieldsWithoutEffect, generationFields, MAX_TOP_LOGPROBS, Usage } from './generation-request.js';
import { ChatMessage, Tools } from './message.js';
import { Nullable } from './nullable.js';

const closed = { additionalProperties: false };
const MAX_MESSAGES = 1_000;

const maxTokens = Nullable(Type.Integer({ minimum: 1 }), {
  description: "The most tokens of an answer. Default: the service's limit, or what the model has left.",
});

/** Body of `POST /v1/chat/completions`. */
export const ChatCompletionRequest = Type.Object(
  {
    ...generationFields,
    ...fieldsWithoutEffect,
    messages: Type.Array(ChatMessage, { minItems: 1, maxItems: MAX_MESSAGES }),
    tools: Type.Optional(
      Nullable(Tools, {
        description:
          "Written into the prompt as the model's chat template does it. A call is answered as text, in the form of the model.",
      }),
    ),
    tool_choice: Type.Optional(
      Nullable(Type.Enum(['auto', 'none']), {
        description: 'none: the tools are not written into the prompt. The model cannot be made to call one.',
      }),
    ),
    parallel_tool_calls: Type.Optional(Nullable(Type.Literal(true), { description: 'Not supported: only true.' })),
    max_completion_tokens: Type.Optional(maxTokens),
    max_tokens: Type.Optional({ ...maxTokens, description: 'The older name of `max_completion_tokens`.' }),
    logprobs: Type.Optional(
      Nullable(Type.Boolean(), { description: 'Whether the log-probabilities of the tokens are returned.' }),
    ),
    top_logprobs: Type.Optional(
      Nullable(Type.Integer({ minimum: 0, maximum: MAX_TOP_LOGPROBS }), {
        description: 'How many of the most likely tokens are returned at each place. Only with `logprobs`.',
      }),
    ),
    response_format: Type.Optional(
      Nullable(Type.Object({ type: Type.Literal('text') }, closed), { description: 'Not supported: only text.' }),
    ),
  },
  { $id: 'ChatCompletionRequest', ...closed },
);
export type ChatCompletionRequest = Static<typeof ChatCompletionRequest>;

const tokenLogprob = {
  token: Type.String(),
  logprob: Type.Number({ description: '-9999 for a token that is impossible.' }),
  bytes: Nullable(Type.Array(Type.Integer({ minimum: 0, maximum: 255 })), {
    description: "The token's UTF-8; null for a token that is a part of a character.",
  }),
};

const ChatLogprobs = Type.Object(
  {
    content: Type.Array(
      Type.Object({ ...tokenLogprob, top_logprobs: Type.Array(Type.Object(tokenLogprob, closed)) }, closed),
    ),
    refusal: Type.Null(),
  },
  { $id: 'ChatLogprobs', ...closed },
);
export type ChatLogprobs = Static<typeof ChatLogprobs>;

const finishReason = Type.Enum(['stop', 'length'], {
  description: 'stop: the model ended its answer, or a stop text came. length: max_tokens, or the end of the context.',
});

/** Answer of `POST /v1/chat/completions`. */
export const ChatCompletion = Type.Object(
  {
    ...answerHead,
    object: Type.Literal('chat.completion'),
    choices: Type.Array(
      Type.Object(
        {
          index: Type.Integer({ minimum: 0 }),
          message: Type.Object(
            { role: Type.Literal('assistant'), content: Type.String(), refusal: Type.Null() },
            closed,
          ),
          logprobs: Nullable(ChatLogprobs),
          finish_reason: finishReason,
        },
        closed,
      ),
    ),
    usage: Usage,
  },
  { $id: 'ChatCompletion', ...closed },
);
export type ChatCompletion = Static<typeof ChatCompletion>;

/** A piece of a streamed answer. */
export const ChatCompletionChunk = Type.Object(
  {
    ...answerHead,
    object: Type.Literal('chat.completion.chunk'),
    choices: Type.Array(
      Type.Object(
        {
          index: Type.Integer({ minimum: 0 }),
          delta: Type.Object(
            { role: Type.Optional(Type.Literal('assistant')), content: Type.Optional(Type.String()) },
            closed,
          ),
          logprobs: Nullable(ChatLogprobs),
          finish_reason: Nullable(finishReason),
        },
        closed,
      ),
    ),
    usage: Type.Optional(Nullable(Usage)),
  },
  { $id: 'ChatCompletionChunk', ...closed },
);
export type ChatCompletionChunk = Static<typeof ChatCompletionChunk>;
