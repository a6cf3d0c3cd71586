import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import { type Caller, EVERYTHING } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { KeyAnswer, KeyRecord, KeyStore } from './key-store.js';
import { checkKeylessRequest, type WithoutKeys } from './without-keys.js';

/** The sender of a request. */
export interface Identity {
  caller: Caller;
  /** Null if no key was required. */
  key: KeyRecord | null;
}

/** Full access without a key: while no key exists, and on public routes. */
export const WITHOUT_KEY: Identity = Object.freeze({ caller: EVERYTHING, key: null });

/** The identity of a key: what it sees, and the owner of what it creates. */
export function identityOf(key: KeyRecord): Identity {
  if (key.owner === 'all') return { key, caller: { sees: 'all', owner: null } };
  return { key, caller: { sees: key.role === 'admin' ? 'all' : 'own', owner: key.owner } };
}

export interface AuthenticatorOptions {
  /** Null: requests never need a key. */
  keys: Pick<KeyStore, 'check'> | null;
  withoutKeys: WithoutKeys;
}

export interface Authenticator {
  /** @throws ProductError `unauthorized`, `forbidden`, `redis_unavailable` */
  identify(headers: IncomingHttpHeaders): Promise<Identity>;
  /** True if the key of an earlier request is still valid, or if that cannot be checked now. */
  stillValid(headers: IncomingHttpHeaders): Promise<boolean>;
}

const BEARER = /^Bearer +(\S+) *$/i;
/** Sent by clients with an empty key, such as Prometheus with an empty file. It counts as no key. */
const EMPTY_BEARER = /^Bearer *$/i;

export function createAuthenticator({ keys, withoutKeys }: AuthenticatorOptions): Authenticator {
  // Once there were keys, the service always requires one: losing the data of Redis must not open it.
  let known: 'nothing' | 'no-keys' | 'keys' = 'nothing';

  const check = async (token: string | undefined): Promise<KeyAnswer> => {
    if (keys === null) return { type: 'no-keys' };
    try {
      const answer = await keys.check(token);
      if (answer.type === 'no-keys' && known === 'keys') return { type: 'invalid' };
      // An invalid token does not prove that there are keys.
      if (answer.type === 'no-keys') known = 'no-keys';
      else if (answer.type === 'valid' || token === undefined) known = 'keys';
      return answer;
    } catch (error) {
      // No key can have been created since, because that needs Redis.
      if (known === 'no-keys' && error instanceof ProductError && error.code === 'redis_unavailable') {
        return { type: 'no-keys' };
      }
      throw error;
    }
  };

  return {
    async identify(headers) {
      const answer = await check(tokenOf(headers));
      if (answer.type === 'valid') return identityOf(answer.key);
      if (answer.type === 'invalid' || withoutKeys === 'refuse') throw unauthorized(headers);
      if (withoutKeys === 'loopback') checkKeylessRequest(headers);
      return WITHOUT_KEY;
    },
    async stillValid(headers) {
      const token = tokenOf(headers);
      if (keys === null || token === undefined) return true;
      return await keys.check(token).then(
        ({ type }) => type !== 'invalid',
        () => true,
      );
    },
  };
}

function tokenOf({ authorization }: IncomingHttpHeaders): string | undefined {
  if (authorization === undefined || EMPTY_BEARER.test(authorization)) return undefined;
  return BEARER.exec(authorization)?.[1] ?? '';
}

function unauthorized(headers: IncomingHttpHeaders): ProductError {
  const message =
    tokenOf(headers) === undefined
      ? 'This service requires an API key. Send it as `Authorization: Bearer lsk_…`.'
      : 'The API key is not valid. It may have been revoked; ask the operator of the service for a new one.';
  return new ProductError('unauthorized', message);
}

const REVOCATION_CHECK_MS = 5_000;

/** Returns a signal for a long answer, aborted once the key of the request is revoked. Checks until `ended` is aborted. */
export function watchRevocation(
  authenticator: Authenticator,
  request: FastifyRequest,
  ended: AbortSignal,
  checkMs = REVOCATION_CHECK_MS,
): AbortSignal {
  const revoked = new AbortController();
  if (request.identity.key === null) return revoked.signal;
  const timer = setInterval(() => {
    authenticator.stillValid(request.headers).then(
      (valid) => {
        if (!valid) revoked.abort();
      },
      () => {},
    );
  }, checkMs);
  const stop = () => clearInterval(timer);
  for (const signal of [ended, revoked.signal]) signal.addEventListener('abort', stop, { once: true });
  if (ended.aborted) stop();
  return revoked.signal;
}
