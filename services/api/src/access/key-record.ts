import { KeyId, Nullable, Role } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';

const quota = (description: string) => Nullable(Type.Integer({ minimum: 0 }), { description });

/** Limits of one key that differ from those of the settings. */
export const KeyLimits = Type.Partial(
  Type.Object({
    requests_per_minute: quota('Calls a minute.'),
    active_jobs: quota('Jobs that wait or run.'),
    dataset_bytes: quota('Of all its datasets.'),
    adapter_bytes: quota('Of all its adapters.'),
  }),
  { additionalProperties: false },
);
export type KeyLimits = Static<typeof KeyLimits>;

/** What is kept of a key: everything but its secret. */
export const KeyRecord = Type.Object(
  {
    id: KeyId,
    name: Type.String({ minLength: 1, maxLength: 128 }),
    role: Role,
    /** Whose things the key sees and makes: its own id, the id of another key, or `all` for one that only reads. */
    owner: Type.Union([KeyId, Type.Literal('all')]),
    secret_sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    limits: KeyLimits,
    created_at: Type.String(),
  },
  { additionalProperties: false },
);
export type KeyRecord = Static<typeof KeyRecord>;

/** A key as it is listed. */
export type ListedKey = Omit<KeyRecord, 'secret_sha256'> & { revoked_at: string | null };
