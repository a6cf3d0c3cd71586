import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { closed, KeyId, Nullable, newIdentifier, ProductError, Role } from '@lorasmith/contracts';
import { jobKeys, luaScript, onRedis, repliesOf } from '@lorasmith/queue';
import type { Redis } from 'ioredis';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { hubTokenKeys, tokenOwner } from './hub-tokens.js';

const revokeScript = luaScript(import.meta.url, './hub-tokens.lua', 'revoke_key');

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

/** The most keys: far more than anyone creates by hand. A list reads all of them. */
const MAX_KEYS = 10_000;
/** Limits, for docs/limits.md. */
export const keyLimits = {
  keys: { value: MAX_KEYS, unit: 'keys', beyond: 'the command refuses' },
};
/** The digest for an unknown id, so that checking it takes as long as a wrong secret. */
const UNKNOWN_KEY_SHA256 = '0'.repeat(64);

/** Clients of the OpenAI API always send a token, such as `none`. While there are no keys, it counts as none. */
const PLACEHOLDER = /^(?!lsk_)[A-Za-z0-9_-]+$/;

/**
 * The API keys, in Redis. Keys are revoked but never removed: what they own keeps its owner, and a service that once
 * required keys always does.
 *
 * Every call throws ProductError `redis_unavailable` if Redis cannot be reached.
 */
export class KeyStore {
  readonly #redis: Redis;
  readonly #records: string;
  readonly #tokens: { tokens: string; revocations: string };
  /** The scripts of the queue read them. */
  readonly #weights: string;

  constructor({ redis, prefix }: { redis: Redis; prefix: string }) {
    this.#redis = redis;
    this.#records = `${prefix}api-keys`;
    this.#tokens = hubTokenKeys(prefix);
    this.#weights = jobKeys(prefix).keyWeights;
  }

  /**
   * Creates a key. Its token is in the answer, and is not stored.
   * @throws ProductError `conflict` if there are too many, or if `owner` sees everything and the new key does more than read;
   * `not_found` if `owner` is not a key
   */
  async create({ name, role, owner, limits = {}, weight }: NewKeyOptions): Promise<{ key: ListedKey; token: string }> {
    return await onRedis(async () => {
      if ((await this.#redis.hlen(this.#records)) >= MAX_KEYS) {
        throw new ProductError('conflict', `There are ${MAX_KEYS} keys already, which is the limit.`);
      }
      const things = owner === undefined || owner === 'all' ? owner : (await this.#read(owner)).owner;
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
      const write = this.#redis.multi().hset(this.#records, id, JSON.stringify(key));
      if (weight !== undefined) write.hset(this.#weights, id, weight);
      repliesOf(await write.exec());
      return { key: await this.#read(id), token };
    });
  }

  /** All keys, the oldest first. */
  async list(): Promise<ListedKey[]> {
    return await onRedis(async () => {
      const all = this.#redis.multi().hvals(this.#records).hgetall(this.#tokens.revocations).hgetall(this.#weights);
      const [texts, revoked, weightOf] = repliesOf(await all.exec()) as [
        string[],
        Record<string, string>,
        Record<string, string>,
      ];
      return texts
        .map(recordOf)
        .map((key) => listed(key, { revokedAt: revoked[key.id], weight: weightOf[key.owner] }))
        .sort((one, other) => one.created_at.localeCompare(other.created_at) || one.id.localeCompare(other.id));
    });
  }

  /** Revokes a key at once, and removes the token of the hub that it has stored. @throws ProductError `not_found` */
  async revoke(id: KeyId): Promise<ListedKey> {
    return await onRedis(async () => {
      const { owner } = await this.#read(id);
      const args = { owner: tokenOwner(owner), key: id, revoked_at: new Date().toISOString() };
      await revokeScript(this.#redis, this.#tokens, args);
      return await this.#read(id);
    });
  }

  /**
   * Changes the share of the machines that the jobs of a key get; of running jobs when they start again.
   * @throws ProductError `not_found`; `conflict` for a key whose jobs belong to another key
   */
  async setWeight(id: KeyId, weight: number): Promise<ListedKey> {
    return await onRedis(async () => {
      const { owner } = await this.#read(id);
      if (owner !== id) {
        const message = `What this key creates belongs to ${owner === 'all' ? 'nobody' : owner}, so it has no weight of its own.`;
        throw new ProductError('conflict', message, { param: 'key' });
      }
      await this.#redis.hset(this.#weights, id, weight);
      return await this.#read(id);
    });
  }

  /** Checks the token without a cache, so that a revocation takes effect with the next call. */
  async check(token: string | undefined): Promise<KeyAnswer> {
    return await onRedis(async () => {
      const parsed = token === undefined ? null : parseToken(token);
      if (parsed === null) {
        const isNone = token === undefined || PLACEHOLDER.test(token);
        return isNone && !(await this.#hasAny()) ? { type: 'no-keys' } : { type: 'invalid' };
      }
      const { id, secret } = parsed;
      const both = this.#redis.multi().hget(this.#records, id).hexists(this.#tokens.revocations, id);
      const [text, revoked] = repliesOf(await both.exec()) as [string | null, number];
      const key = text === null ? null : recordOf(text);
      const right = isSecret(secret, key?.secret_sha256 ?? UNKNOWN_KEY_SHA256);
      return right && key !== null && revoked === 0 ? { type: 'valid', key } : { type: 'invalid' };
    });
  }

  /** True if any key has ever been created. */
  async any(): Promise<boolean> {
    return await onRedis(() => this.#hasAny());
  }

  async #hasAny(): Promise<boolean> {
    return (await this.#redis.hlen(this.#records)) > 0;
  }

  async #read(id: KeyId): Promise<ListedKey> {
    const text = await this.#redis.hget(this.#records, id);
    if (text === null) throw noSuchKey(id);
    const key = recordOf(text);
    const [revokedAt, weight] = await Promise.all([
      this.#redis.hget(this.#tokens.revocations, id),
      this.#redis.hget(this.#weights, key.owner),
    ]);
    return listed(key, { revokedAt, weight });
  }
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

/**
 * `lsk_`, the 24 digits of the key's id, `_`, and 256 random bits in base64url. The record is found by the id, so the
 * secret is only compared, never looked up.
 */
const TOKEN = /^lsk_([0-9a-f]{24})_([A-Za-z0-9_-]{43})$/;
const SECRET_BYTES = 32;

/** A new key. It is shown once and never stored. */
interface NewApiKey {
  id: KeyId;
  token: string;
  /** The only part of the secret that is stored. */
  secretSha256: string;
}

function newApiKey(): NewApiKey {
  const id = newIdentifier('key');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return { id, token: `lsk_${id.slice('key_'.length)}_${secret}`, secretSha256: sha256(secret).toString('hex') };
}

/** The parts of a token, or null if it is not one. */
function parseToken(token: string): { id: KeyId; secret: string } | null {
  const [, digits, secret] = TOKEN.exec(token) ?? [];
  return digits === undefined || secret === undefined ? null : { id: `key_${digits}`, secret };
}

/**
 * True if the secret has this sha256 (hexadecimal); found in constant time. A plain hash is enough for 256 random bits: a slow
 * hash protects only secrets that can be guessed.
 */
function isSecret(secret: string, secretSha256: string): boolean {
  const stored = Buffer.from(secretSha256, 'hex');
  const given = sha256(secret);
  return stored.length === given.length && timingSafeEqual(stored, given);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
