import { closed, KeyId, Nullable, Role } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';

const quota = (description: string) => Nullable(Type.Integer({ minimum: 0 }), { description });

/** Limits of one key that override the settings. */
export const KeyLimits = Type.Partial(
  Type.Object({
    requests_per_minute: quota('Calls per minute.'),
    active_jobs: quota('Unfinished jobs.'),
    dataset_bytes: quota('Bytes of all its datasets.'),
    adapter_bytes: quota('Bytes of all its adapters.'),
  }),
  closed,
);
export type KeyLimits = Static<typeof KeyLimits>;

/** The stored record of a key: everything but its secret. */
export const KeyRecord = Type.Object(
  {
    id: KeyId,
    name: Type.String({ minLength: 1, maxLength: 128 }),
    role: Role,
    /** Owner of what the key sees and creates: its own id, the id of another key, or `all` for a key that only reads. */
    owner: Type.Union([KeyId, Type.Literal('all')]),
    secret_sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    limits: KeyLimits,
    created_at: Type.String(),
  },
  closed,
);
export type KeyRecord = Static<typeof KeyRecord>;

/** Bounds of the weight of a key. */
export const KEY_WEIGHTS = { minimum: 0.01, maximum: 100 } as const;

/** A key in a list. */
export type ListedKey = Omit<KeyRecord, 'secret_sha256'> & {
  /** Its share of the machines, relative to the other keys; of a key that creates things for another one, that key's. */
  weight: number;
  revoked_at: string | null;
};
