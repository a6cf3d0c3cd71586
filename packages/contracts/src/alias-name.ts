import { type Static, Type } from 'typebox';
import { closed, DatasetId, ID_END } from './schema-parts.js';

/** No name begins as an id does, and none has the colon of a fine-tuned model's name. */
const NAME = '(?!(?:ad|ds|job|key|pull|req|sw)_)[a-z][a-z0-9._-]{0,63}';

/** A name that points to an adapter, and can be moved to another one. */
export const AliasName = Type.String({
  pattern: `^${NAME}$`,
  description:
    'Lower-case letters, digits, `.`, `_` and `-`, at most 64; a letter first, and not as an id begins (`ad_`).',
  examples: ['support-bot'],
});
export type AliasName = Static<typeof AliasName>;

/** An adapter in a request: its id, or a name that points to it. */
export const AdapterReference = Type.String({
  pattern: `^(?:ad${ID_END}|${NAME})$`,
  description: 'The id of an adapter, or a name that points to one.',
  examples: ['ad_0123456789abcdef01234567', 'support-bot'],
});
export type AdapterReference = Static<typeof AdapterReference>;

/** A condition of a move. */
export const AliasGuard = Type.Object(
  {
    dataset: Type.Unsafe<DatasetId>({ ...DatasetId, description: 'A dataset that neither adapter was trained on.' }),
    metric: Type.Literal('loss', { description: 'The mean loss over the tokens that a job would train.' }),
    max_worse: Type.Number({
      minimum: 0,
      maximum: 1_000,
      description: 'By how much the loss of the new adapter may exceed that of the present one.',
    }),
  },
  { $id: 'AliasGuard', ...closed },
);
export type AliasGuard = Static<typeof AliasGuard>;
