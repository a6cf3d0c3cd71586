import { type Static, Type } from 'typebox';
import {
  answerHead,
  fieldsWithoutEffect,
  generationFields,
  MAX_CHOICES,
  MAX_TOP_LOGPROBS,
  Usage,
} from './generation.js';
import { ChatMessage, MAX_TOOLS, Tools } from './message.js';
import { closed, Nullable } from './schema-parts.js';

const TokenIds = Type.Array(Type.Integer({ minimum: 0, maximum: 16_777_215 }), { minItems: 1 });

/** Body of `POST /v1/completions`. */
export const CompletionRequest = Type.Object(
  {
    ...generationFields,
    prompt: Type.Union(
      [
        Type.String(),
        Type.Array(Type.String(), { minItems: 1, maxItems: MAX_CHOICES }),
        TokenIds,
        Type.Array(TokenIds, { minItems: 1, maxItems: MAX_CHOICES }),
      ],
      { description: 'One text or several, or their token ids.' },
    ),
    max_tokens: Type.Optional(
      Nullable(Type.Integer({ minimum: 0 }), {
        description: 'The most tokens of an answer. 0, only with `echo`: none, to score the prompt. Default: 16.',
      }),
    ),
    echo: Type.Optional(
      Nullable(Type.Boolean(), { description: 'Whether the answer starts with the prompt. Default: false.' }),
    ),
    logprobs: Type.Optional(
      Nullable(Type.Integer({ minimum: 0, maximum: MAX_TOP_LOGPROBS }), {
        description:
          'Returns the log-probability of each token, and of as many of the most likely tokens at its place. With ' +
          '`echo`, those of the prompt, too.',
      }),
    ),
    best_of: Type.Optional(Nullable(Type.Literal(1), { description: 'Not supported: only 1.' })),
    suffix: Type.Optional(Type.Null({ description: 'Not supported: only null.' })),
  },
  { $id: 'CompletionRequest', ...closed },
);
export type CompletionRequest = Static<typeof CompletionRequest>;

const CompletionLogprobs = Type.Object(
  {
    tokens: Type.Array(Type.String()),
    token_logprobs: Type.Array(
      Nullable(Type.Number({ description: 'null for the first token, which nothing predicts.' })),
    ),
    top_logprobs: Type.Array(Nullable(Type.Record(Type.String(), Type.Number()))),
    text_offset: Type.Array(Type.Integer({ minimum: 0 }), { description: 'Where each token starts in the text.' }),
  },
  { $id: 'CompletionLogprobs', ...closed },
);
export type CompletionLogprobs = Static<typeof CompletionLogprobs>;

/** Answer of `POST /v1/completions`, and a piece of a streamed answer. */
export const Completion = Type.Object(
  {
    ...answerHead,
    object: Type.Literal('text_completion'),
    choices: Type.Array(
      Type.Object(
        {
          index: Type.Integer({
            minimum: 0,
            description: 'The number of the prompt times n, plus that of the answer.',
          }),
          text: Type.String(),
          logprobs: Nullable(CompletionLogprobs),
          finish_reason: Nullable(Type.Enum(['stop', 'length']), { description: 'null in all pieces but the last.' }),
        },
        closed,
      ),
    ),
    usage: Type.Optional(Nullable(Usage)),
  },
  { $id: 'Completion', ...closed },
);
export type Completion = Static<typeof Completion>;

const MAX_MESSAGES = 1_000;

const maxTokens = Nullable(Type.Integer({ minimum: 1 }), {
  description: "The most tokens of an answer. Default: the service's limit, or what the model has left.",
});

const ResponseFormat = Type.Object(
  {
    type: Type.Enum(['text', 'json_object', 'json_schema']),
    json_schema: Type.Optional(
      Type.Object(
        {
          name: Type.String({ pattern: '^[a-zA-Z0-9_-]{1,64}$', description: 'Without effect.' }),
          description: Type.Optional(Type.String({ description: 'Without effect.' })),
          schema: Type.Optional(
            Type.Object({}, { additionalProperties: true, description: 'The keywords that docs/api.md lists.' }),
          ),
          strict: Type.Optional(
            Nullable(Type.Boolean(), { description: 'Without effect: answers always have the schema.' }),
          ),
        },
        closed,
      ),
    ),
  },
  { $id: 'ResponseFormat', ...closed },
);

const functionName = { name: Type.String({ maxLength: 256 }) };

const AllowedTool = Type.Object(
  {
    type: Type.Literal('function'),
    function: Type.Object(functionName, { additionalProperties: true, description: 'The name alone counts.' }),
  },
  closed,
);

const AllowedTools = Type.Object(
  {
    type: Type.Literal('allowed_tools'),
    allowed_tools: Type.Object(
      {
        mode: Type.Enum(['auto', 'required']),
        tools: Type.Array(AllowedTool, {
          minItems: 1,
          maxItems: MAX_TOOLS,
          description: 'The others are not written into the prompt.',
        }),
      },
      closed,
    ),
  },
  { $id: 'AllowedTools', ...closed },
);

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
      Type.Union(
        [
          Type.Enum(['auto', 'none', 'required']),
          Type.Object({ type: Type.Literal('function'), function: Type.Object(functionName, closed) }, closed),
          AllowedTools,
          Type.Null(),
        ],
        {
          description:
            'none: the tools are not written into the prompt. required, or the name of a function: the answer is one call, whose ' +
            'arguments have the schema of the function. allowed_tools: auto or required, with some of the tools. Default: auto.',
        },
      ),
    ),
    parallel_tool_calls: Type.Optional(
      Nullable(Type.Boolean(), { description: 'false: the answer ends after its first call. Default: true.' }),
    ),
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
      Nullable(ResponseFormat, {
        description:
          'json_object: the answer is a JSON object. json_schema: it is JSON of this schema. Unless it is cut by max_tokens.',
      }),
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

const finishReason = Type.Enum(['stop', 'length', 'tool_calls'], {
  description:
    'stop: the model ended its answer, or a stop text came. length: max_tokens, or the end of the context. tool_calls: the ' +
    'model calls tools.',
});

const calledFunction = {
  type: Type.Literal('function'),
  function: Type.Object(
    { name: Type.String(), arguments: Type.String({ description: 'A JSON object as text.' }) },
    closed,
  ),
};
const AnsweredCall = Type.Object({ id: Type.String(), ...calledFunction }, { $id: 'AnsweredCall', ...closed });

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
            {
              role: Type.Literal('assistant'),
              content: Nullable(Type.String(), { description: 'Null beside tool_calls without text.' }),
              refusal: Type.Null(),
              tool_calls: Type.Optional(Type.Array(AnsweredCall)),
            },
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
            {
              role: Type.Optional(Type.Literal('assistant')),
              content: Type.Optional(Type.String()),
              tool_calls: Type.Optional(
                Type.Array(
                  Type.Object(
                    { index: Type.Integer({ minimum: 0 }), id: Type.String(), ...calledFunction },
                    { ...closed, description: 'A whole call.' },
                  ),
                ),
              ),
            },
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
