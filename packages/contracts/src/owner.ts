import { type Static, Type } from 'typebox';
import { KeyId } from './identifier.js';
import { Nullable } from './nullable.js';

/** A field of everything that belongs to somebody. Records of versions that knew no keys lack it. */
export const Owner = Type.Optional(
  Nullable(KeyId, {
    description:
      'The API key that it belongs to; null or left out: it was made without a key, and admins alone see it.',
  }),
);
export type Owner = Static<typeof KeyId> | null;

/** What a key may do: `admin` everything, `train` everything with what is its own, `read` only look at that. */
export const ROLES = ['admin', 'train', 'read'] as const;
export const Role = Type.Enum(ROLES);
export type Role = (typeof ROLES)[number];
