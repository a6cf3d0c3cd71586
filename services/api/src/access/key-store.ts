import { type KeyId, ProductError, type Role } from '@lorasmith/contracts';
import { jobKeys, onRedis, repliesOf } from '@lorasmith/queue';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { isSecret, newApiKey, parseToken } from './api-key.js';
import { type KeyLimits, KeyRecord, type ListedKey } from './key-record.js';

export interface NewKeyOptions {
  name: string;
  role: Role;
  /** The key that it sees and creates things as, which may do so as another one itself; `all`: it sees everything. @see KeyRecord */
  owner?: KeyRecord['owner'] | undefined;
  limits?: KeyLimits | undefined;
  /** Only of a key that is its own owner. @defaultValue 1 */
  weight?: number | undefined;
}

/** The result of checking a token. */
export type KeyAnswer =
  | { type: 'valid'; key: KeyRecord }
  | { type: 'invalid' }
  /** No key has ever been created. */
  | { type: 'no-keys' };

/**
 * The API keys, in Redis. Keys are revoked but never removed: what they own keeps its owner, and a service that once
 * required keys always does.
 *
 * Every call throws ProductError `redis_unavailable` if Redis cannot be reached.
 */
export interface KeyStore {
  /**
   * @throws ProductError `conflict` if there are too many, or if `owner` sees everything and the new key does more than read;
   * `not_found` if `owner` is not a key
   */
  create(options: NewKeyOptions): Promise<{ key: ListedKey; token: string }>;
  /** Oldest first. */
  list(): Promise<ListedKey[]>;
  /** Takes effect at once. @throws ProductError `not_found` */
  revoke(id: KeyId): Promise<ListedKey>;
  /**
   * Changes the share of the machines that the jobs of a key get; of running jobs when they start again.
   * @throws ProductError `not_found`; `conflict` for a key whose jobs belong to another key
   */
  setWeight(id: KeyId, weight: number): Promise<ListedKey>;
  /** Checks the token without a cache, so that a revocation takes effect with the next call. */
  check(token: string | undefined): Promise<KeyAnswer>;
  /** Whether any key has ever been created. */
  any(): Promise<boolean>;
}

/** Far more than anyone creates by hand. A list reads all of them. */
const MAX_KEYS = 10_000;
/** Limits, for docs/limits.md. */
export const keyLimits = {
  keys: { value: MAX_KEYS, unit: 'keys', beyond: 'the command refuses' },
};
/** Used for an unknown id, so that checking it takes as long as a wrong secret. */
const UNKNOWN_KEY_SHA256 = '0'.repeat(64);

/** Clients of the OpenAI API always send a token, such as `none`. While there are no keys, it counts as none. */
const PLACEHOLDER = /^(?!lsk_)[A-Za-z0-9_-]+$/;

export function createKeyStore({ redis, prefix }: { redis: Redis; prefix: string }): KeyStore {
  const records = `${prefix}api-keys`;
  const revocations = `${prefix}api-keys:revoked`;
  // The scripts of the queue read them.
  const weights = jobKeys(prefix).keyWeights;

  const list = async (): Promise<ListedKey[]> => {
    const [texts, revoked, weightOf] = repliesOf(
      await redis.multi().hvals(records).hgetall(revocations).hgetall(weights).exec(),
    ) as [string[], Record<string, string>, Record<string, string>];
    return texts
      .map(recordOf)
      .map((key) => listed(key, { revokedAt: revoked[key.id], weight: weightOf[key.owner] }))
      .sort((one, other) => one.created_at.localeCompare(other.created_at) || one.id.localeCompare(other.id));
  };

  const read = async (id: KeyId): Promise<ListedKey> => {
    const text = await redis.hget(records, id);
    if (text === null) throw noSuchKey(id);
    const key = recordOf(text);
    const [revokedAt, weight] = await Promise.all([redis.hget(revocations, id), redis.hget(weights, key.owner)]);
    return listed(key, { revokedAt, weight });
  };

  return {
    create: ({ name, role, owner, limits = {}, weight }) =>
      onRedis(async () => {
        if ((await redis.hlen(records)) >= MAX_KEYS) {
          throw new ProductError('conflict', `There are ${MAX_KEYS} keys already, which is the limit.`);
        }
        const things = owner === undefined || owner === 'all' ? owner : (await read(owner)).owner;
        if (things === 'all' && role !== 'read') throw ownsNothing(owner!);
        const { id, token, secretSha256 } = newApiKey();
        const key: KeyRecord = {
          id,
          name,
          role,
          owner: things ?? id,
          secret_sha256: secretSha256,
          limits,
          created_at: new Date().toISOString(),
        };
        const write = redis.multi().hset(records, id, JSON.stringify(key));
        if (weight !== undefined) write.hset(weights, id, weight);
        repliesOf(await write.exec());
        return { key: await read(id), token };
      }),

    list: () => onRedis(list),

    revoke: (id) =>
      onRedis(async () => {
        if (!(await redis.hexists(records, id))) throw noSuchKey(id);
        // Only the first revocation counts.
        await redis.hsetnx(revocations, id, new Date().toISOString());
        return await read(id);
      }),

    setWeight: (id, weight) =>
      onRedis(async () => {
        const { owner } = await read(id);
        if (owner !== id) {
          const message = `What this key creates belongs to ${owner === 'all' ? 'nobody' : owner}, so it has no weight of its own.`;
          throw new ProductError('conflict', message, { param: 'key' });
        }
        await redis.hset(weights, id, weight);
        return await read(id);
      }),

    check: (token) =>
      onRedis(async () => {
        const parsed = token === undefined ? null : parseToken(token);
        if (parsed === null) {
          const isNone = token === undefined || PLACEHOLDER.test(token);
          return isNone && (await redis.hlen(records)) === 0 ? { type: 'no-keys' } : { type: 'invalid' };
        }
        const { id, secret } = parsed;
        const [text, revoked] = repliesOf(await redis.multi().hget(records, id).hexists(revocations, id).exec()) as [
          string | null,
          number,
        ];
        const key = text === null ? null : recordOf(text);
        const right = isSecret(secret, key?.secret_sha256 ?? UNKNOWN_KEY_SHA256);
        return right && key !== null && revoked === 0 ? { type: 'valid', key } : { type: 'invalid' };
      }),

    any: () => onRedis(async () => (await redis.hlen(records)) > 0),
  };
}

function recordOf(text: string): KeyRecord {
  const record: unknown = JSON.parse(text);
  if (Value.Check(KeyRecord, record)) return record;
  throw new ProductError('internal_error', 'The record of an API key in Redis is damaged.');
}

function listed(
  { secret_sha256: _hidden, ...key }: KeyRecord,
  { revokedAt, weight }: { revokedAt: string | null | undefined; weight: string | null | undefined },
): ListedKey {
  return { ...key, weight: Number(weight ?? 1), revoked_at: revokedAt ?? null };
}

function ownsNothing(id: string): ProductError {
  const message = `${id} sees everything and owns nothing, so no key can create things as it. Use --role read --owner all.`;
  return new ProductError('conflict', message, { param: 'owner' });
}

function noSuchKey(id: string): ProductError {
  return new ProductError('not_found', `There is no API key ${JSON.stringify(id.slice(0, 100))}.`, { param: 'key' });
}
