import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import { type Identity, identityOf, WITHOUT_KEY } from './identity.js';
import type { KeyAnswer, KeyStore } from './key-store.js';
import { checkOpenRequest } from './open-requests.js';

/**
 * What is answered while no key was ever made. `refuse`: nothing. `loopback`: everything that comes from this machine and
 * is no other site's page. `everything`: everything, since something in front of the service keeps strangers away.
 */
export type WithoutKeys = 'refuse' | 'loopback' | 'everything';

export interface AuthenticatorOptions {
  /** Null: no key is ever asked for. */
  keys: Pick<KeyStore, 'check'> | null;
  withoutKeys: WithoutKeys;
}

export interface Authenticator {
  /** @throws ProductError `unauthorized`, `forbidden`, `redis_unavailable` */
  identify(headers: IncomingHttpHeaders): Promise<Identity>;
  /** Whether the key of an earlier request is still valid; true where that cannot be found out now. */
  stillValid(headers: IncomingHttpHeaders): Promise<boolean>;
}

const BEARER = /^Bearer +(\S+) *$/i;
/** What is sent by a client whose key is empty, such as Prometheus with an empty file: no key, not a wrong one. */
const EMPTY_BEARER = /^Bearer *$/i;

export function createAuthenticator({ keys, withoutKeys }: AuthenticatorOptions): Authenticator {
  // Once keys were seen, none is no more an answer: a Redis that was emptied must not open the service.
  let known: 'nothing' | 'no-keys' | 'keys' = 'nothing';

  const check = async (token: string | undefined): Promise<KeyAnswer> => {
    if (keys === null) return { type: 'no-keys' };
    try {
      const answer = await keys.check(token);
      if (answer.type === 'no-keys' && known === 'keys') return { type: 'invalid' };
      // A token that is wrong says nothing: it is not looked for among none.
      if (answer.type === 'no-keys') known = 'no-keys';
      else if (answer.type === 'valid' || token === undefined) known = 'keys';
      return answer;
    } catch (error) {
      // Nobody can have made a key since: that takes Redis.
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
      if (withoutKeys === 'loopback') checkOpenRequest(headers);
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
