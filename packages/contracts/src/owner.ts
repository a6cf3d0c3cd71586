import { type Static, Type } from 'typebox';
import { KeyId } from './identifier.js';
import { Nullable } from './nullable.js';

/** The owner of a thing. */
export const Owner = Nullable(KeyId, {
  description: 'The API key that owns it. Null: it was created without a key, and only admins see it.',
});
export type Owner = Static<typeof Owner>;

/** The permissions of a key. `admin`: everything. `train`: everything with its own things. `read`: read its own things. */
export const ROLES = ['admin', 'train', 'read'] as const;
export const Role = Type.Enum(ROLES);
export type Role = (typeof ROLES)[number];
