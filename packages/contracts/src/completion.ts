import { type Static, Type } from 'typebox';
import { answerHead, generationFields, MAX_CHOICES, MAX_TOP_LOGPROBS, Usage } from './generation-request.js';
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
