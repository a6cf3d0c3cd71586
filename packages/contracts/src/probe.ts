import { type Static, Type } from 'typebox';
import { closed } from './schema-parts.js';

const precision = Type.Enum(['float32', 'bfloat16'], { description: 'The dtype in which the values were computed.' });

/** A possible next token, with its probability for base and adapter. */
export const ProbeToken = Type.Object(
  {
    id: Type.Integer({ minimum: 0 }),
    text: Type.String(),
    base_logprob: Type.Number({ description: 'Natural logarithm of its probability without the adapter.' }),
    adapter_logprob: Type.Number({ description: 'Natural logarithm of its probability with the adapter.' }),
  },
  closed,
);
export type ProbeToken = Static<typeof ProbeToken>;

export const ProbeCase = Type.Object(
  {
    prompt: Type.String({ description: 'The text, without tokens that the tokenizer itself adds, such as BOS.' }),
    token_ids: Type.Array(Type.Integer({ minimum: 0 }), { description: 'The prompt as the model reads it.' }),
    next_tokens: Type.Array(ProbeToken, {
      description: "The most likely next tokens of base and adapter. The first one is the adapter's most likely token.",
    }),
  },
  closed,
);
export type ProbeCase = Static<typeof ProbeCase>;

/** Predictions of a language model and its adapter. Use them to check a serving stack. */
export const TokenProbe = Type.Object(
  { kind: Type.Literal('next-token'), precision, cases: Type.Array(ProbeCase) },
  { $id: 'TokenProbe', ...closed },
);
export type TokenProbe = Static<typeof TokenProbe>;

const scores = Type.Array(Type.Number());

/** Predictions of a classifier and its adapter for some features. */
export const ClassProbe = Type.Object(
  {
    kind: Type.Literal('class-scores'),
    precision,
    cases: Type.Array(
      Type.Object(
        {
          features: Type.Array(Type.Number()),
          base_scores: scores,
          adapter_scores: scores,
        },
        { ...closed, description: 'Scores are logits, one per class.' },
      ),
    ),
  },
  { $id: 'ClassProbe', ...closed },
);
export type ClassProbe = Static<typeof ClassProbe>;

export const AdapterProbe = Type.Union([TokenProbe, ClassProbe]);
export type AdapterProbe = Static<typeof AdapterProbe>;

/**
 * The checks before the adapter was published. A difference is the root mean square over the log-probabilities of a fixed
 * probe.
 */
export const AdapterChecks = Type.Object(
  {
    logprobs: Type.Integer({ description: 'How many log-probabilities each difference is computed from.' }),
    adapter_difference: Type.Number({
      description: 'Difference between the base with the adapter and the base alone.',
    }),
    read_back_difference: Type.Number({
      description: 'Difference between the adapter as read from its files and as trained.',
    }),
    read_back_bound: Type.Number({ description: '0: every number must be the same, bit for bit.' }),
    merged_difference: Type.Number({
      description: 'Difference between the merged model and the base with the adapter.',
    }),
    merged_bound: Type.Number(),
    merged_dtype: Type.String({ description: 'The dtype to which merged weights are rounded.' }),
  },
  { $id: 'AdapterChecks', ...closed },
);
export type AdapterChecks = Static<typeof AdapterChecks>;
