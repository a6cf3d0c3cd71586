import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import { type Caller, EVERYTHING, hostNameOf, isLoopback, isOwnName } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { KeyAnswer, KeyRecord, KeyStore } from './key-store.js';

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

/** The key as the tinker client sends it, which demands that it begins so. */
const TINKER_KEY = /^tml-(\S*)$/;

function tokenOf({ authorization, 'x-api-key': apiKey }: IncomingHttpHeaders): string | undefined {
  if (authorization === undefined && typeof apiKey === 'string') return TINKER_KEY.exec(apiKey)?.[1] ?? '';
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

/**
 * The requests that are answered before any key has been created. `refuse`: none. `loopback`: those from this machine, except
 * from pages of other sites. `everything`: all, because a proxy in front of the service authenticates them.
 */
export type WithoutKeys = 'refuse' | 'loopback' | 'everything';

export interface ListenAddress {
  /** The address on which the process listens. */
  host: string;
  /** The address at which clients reach it, if it differs, such as a container's published port. Empty: the same. */
  publishedHost: string;
  /** True if a proxy in front of the service authenticates requests. */
  trustNetwork: boolean;
}

/** The policy of a service at this address while there are no keys. */
export function withoutKeysAt({ host, publishedHost, trustNetwork }: ListenAddress): WithoutKeys {
  if (trustNetwork) return 'everything';
  return isLoopback(publishedHost || host) ? 'loopback' : 'refuse';
}

/**
 * Refuses to serve other machines without keys. While Redis is unavailable this cannot be checked, and every request is
 * refused until then.
 *
 * @throws ProductError `invalid_configuration`
 */
export async function checkListenAddress(address: ListenAddress, keys: Pick<KeyStore, 'any'>): Promise<void> {
  if (withoutKeysAt(address) !== 'refuse') return;
  const known = await keys.any().catch((error: unknown) => {
    if (error instanceof ProductError && error.code === 'redis_unavailable') return true;
    throw error;
  });
  if (known) return;
  const [param, host] = address.publishedHost ? ['API_BIND', address.publishedHost] : ['API_HOST', address.host];
  throw new ProductError(
    'invalid_configuration',
    `${param} ${JSON.stringify(host)}: other machines can reach this address, and there is no API key yet. ` +
      'Create one first: npm run keys -- create --name NAME --role admin; for containers: ' +
      'docker compose run --rm api node services/api/dist/keys.js create --name NAME --role admin. ' +
      'Or listen on 127.0.0.1.',
    { param },
  );
}

/** Headers that a proxy adds: behind one, a request that seems to come from this machine may come from anywhere. */
const OF_PROXIES = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip'];

/**
 * Checks that a request without a key was sent on this machine, and by no web page but the service's own. Another page could
 * send some requests to the loopback address (cross-site request forgery; a page of another port of this machine, too), or all
 * requests under a name that resolves to it (DNS rebinding).
 *
 * @throws ProductError `forbidden`
 */
export function checkKeylessRequest(headers: IncomingHttpHeaders): void {
  const { host = '', origin, 'sec-fetch-site': site = 'none' } = headers;
  if (OF_PROXIES.some((name) => headers[name] !== undefined)) {
    const message =
      'Without API keys, this service answers no request that a proxy forwards. Create a key (npm run keys), or set ' +
      'API_TRUST_NETWORK=true if the proxy has a login of its own.';
    throw new ProductError('forbidden', message);
  }
  if (!isOwnName(hostNameOf(`http://${host}`))) {
    const message =
      'Without API keys, this service answers only under the names of this machine, such as 127.0.0.1 and localhost. ' +
      'Create a key (npm run keys) to use another name.';
    throw new ProductError('forbidden', message);
  }
  if ((origin === undefined || isAt(origin, host)) && (site === 'same-origin' || site === 'none')) return;
  const message = 'Without API keys, this service refuses requests from pages of other sites, and of other ports.';
  throw new ProductError('forbidden', message);
}

/** True if the origin of a page is the address that its request names, port and all. */
function isAt(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host === host.toLowerCase();
}
