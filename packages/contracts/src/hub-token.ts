import { type Static, Type } from 'typebox';
import { closed, Nullable } from './schema-parts.js';

/** The body of `PUT /hub-token`. */
export const HubTokenRequest = Type.Object(
  {
    token: Type.String({
      pattern: '^[A-Za-z0-9_.-]{8,500}$',
      description: 'A token of the Hugging Face hub that may write.',
      examples: ['hf_…'],
    }),
  },
  { $id: 'HubTokenRequest', ...closed },
);
export type HubTokenRequest = Static<typeof HubTokenRequest>;

/** Answer of `GET /hub-token`: never the token itself. */
export const HubToken = Type.Object(
  {
    object: Type.Literal('hub_token'),
    stored_at: Nullable(Type.String(), { description: 'Null: there is no token.' }),
  },
  { $id: 'HubToken', ...closed },
);
export type HubToken = Static<typeof HubToken>;
