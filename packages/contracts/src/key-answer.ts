import { type Static, Type } from 'typebox';
import { KeyId } from './identifier.js';
import { Nullable } from './nullable.js';
import { Role } from './owner.js';

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
