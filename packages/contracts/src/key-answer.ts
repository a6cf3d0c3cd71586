import { type Static, Type } from 'typebox';
import { KeyId, Nullable, Role } from './schema-parts.js';

/** Answer of `GET /key`. */
export const KeyAnswer = Type.Object(
  {
    object: Type.Literal('key'),
    id: Nullable(KeyId, { description: 'Null: the service has no keys.' }),
    name: Nullable(Type.String()),
    role: Type.Enum(Role.enum, {
      description: 'admin: everything. train: everything with its own things. read: reads its own things.',
    }),
  },
  { $id: 'Key', additionalProperties: false },
);
export type KeyAnswer = Static<typeof KeyAnswer>;
