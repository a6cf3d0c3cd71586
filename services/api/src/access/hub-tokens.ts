import { closed, type HubToken, type KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import { luaScript, onRedis } from '@lorasmith/queue';
import type { Redis } from 'ioredis';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { TextSeal } from './sealed-text.js';

const storeScript = luaScript(import.meta.url, './hub-tokens.lua', 'store_hub_token');

const SealedToken = Type.Object({ stored_at: Type.String(), sealed: Type.String() }, closed);

/** The Redis keys of tokens of the hub, and of the revocations of the API keys that store them. */
export function hubTokenKeys(prefix: string): { tokens: string; revocations: string } {
  return { tokens: `${prefix}hub-tokens`, revocations: `${prefix}api-keys:revoked` };
}

/** The name of an owner in these keys. */
export function tokenOwner(owner: Owner): string {
  return owner ?? 'none';
}

/**
 * The tokens with which adapters are delivered to the Hugging Face hub, in Redis: each owner has one, encrypted.
 *
 * Every call throws ProductError `redis_unavailable` if Redis cannot be reached.
 */
export class HubTokens {
  readonly #redis: Redis;
  readonly #keys: { tokens: string; revocations: string };
  readonly #seal: TextSeal | null;

  /** @param options - `secretsKey`: SECRETS_KEY; null: the operator has set none */
  constructor({ redis, prefix, secretsKey }: { redis: Redis; prefix: string; secretsKey: string | null }) {
    this.#redis = redis;
    this.#keys = hubTokenKeys(prefix);
    this.#seal = secretsKey === null ? null : new TextSeal(secretsKey);
  }

  /** @throws ProductError `invalid_delivery` if the operator has set no SECRETS_KEY */
  checkConfigured(): TextSeal {
    if (this.#seal !== null) return this.#seal;
    const message =
      'This service stores no tokens, and so delivers nothing to the hub: its operator has to set SECRETS_KEY.';
    throw new ProductError('invalid_delivery', message);
  }

  /**
   * Stores the token of an owner in place of the one before.
   * @param key - the API key that stores it, with whose revocation it is removed; null without one
   * @throws ProductError `invalid_delivery` without SECRETS_KEY; `unauthorized` if the key has been revoked
   */
  async store(token: string, { owner, key }: { owner: Owner; key: KeyId | null }): Promise<HubToken> {
    const seal = this.checkConfigured();
    const stored_at = new Date().toISOString();
    const sealed = JSON.stringify({ stored_at, sealed: seal.seal(token, subjectOf(owner)) });
    const args = { owner: tokenOwner(owner), key: key ?? '', sealed };
    const outcome = await onRedis(() => storeScript(this.#redis, this.#keys, args));
    if (outcome === 'revoked') throw new ProductError('unauthorized', 'The API key has been revoked.');
    return { object: 'hub_token', stored_at };
  }

  /** When the token of an owner was stored. */
  async describe(owner: Owner): Promise<HubToken> {
    return { object: 'hub_token', stored_at: (await this.#read(owner))?.stored_at ?? null };
  }

  async remove(owner: Owner): Promise<void> {
    const name = tokenOwner(owner);
    await onRedis(() => this.#redis.hdel(this.#keys.tokens, name, `${name}:key`));
  }

  /** The token of an owner. @throws ProductError `invalid_delivery` if there is none, or if it cannot be decrypted any more */
  async tokenOf(owner: Owner): Promise<string> {
    const seal = this.checkConfigured();
    const stored = await this.#read(owner);
    if (stored === null) {
      throw new ProductError('invalid_delivery', 'There is no token of the hub. Store one first (PUT /hub-token).');
    }
    const token = seal.open(stored.sealed, subjectOf(owner));
    if (token !== null) return token;
    const message =
      'The stored token cannot be decrypted: SECRETS_KEY has changed. Store the token again (PUT /hub-token).';
    throw new ProductError('invalid_delivery', message);
  }

  async #read(owner: Owner) {
    const text = await onRedis(() => this.#redis.hget(this.#keys.tokens, tokenOwner(owner)));
    const stored: unknown = text === null ? null : JSON.parse(text);
    return Value.Check(SealedToken, stored) ? stored : null;
  }
}

function subjectOf(owner: Owner): string {
  return `hub token of ${tokenOwner(owner)}`;
}
