import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import type { KeyStore } from './key-store.js';

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
  /** Whether a proxy in front of the service authenticates requests. */
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

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|::1|\[::1\])$/;

/** Whether only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/**
 * Checks that a request without a key is not sent by a web page of another site. On the loopback address such a page could
 * send some requests (cross-site request forgery), or all requests under a name that resolves to the loopback address (DNS
 * rebinding).
 *
 * @throws ProductError `forbidden`
 */
export function checkKeylessRequest({ host, origin, 'sec-fetch-site': site }: IncomingHttpHeaders): void {
  if (!isOwnName(hostNameOf(`http://${host}`))) {
    const message =
      'Without API keys, this service answers only under the names of this machine, such as 127.0.0.1 and localhost. ' +
      'Create a key (npm run keys) to use another name.';
    throw new ProductError('forbidden', message);
  }
  const foreign = (origin !== undefined && !isOwnName(hostNameOf(origin))) || site === 'cross-site';
  if (foreign) {
    throw new ProductError('forbidden', 'Without API keys, this service refuses requests from pages of other sites.');
  }
}

/** A loopback name, or a name without a dot as containers use: no other site can have such a name. */
function isOwnName(name: string): boolean {
  return isLoopback(name) || /^[a-z0-9_-]+$/i.test(name);
}

function hostNameOf(address: string): string {
  try {
    return new URL(address).hostname;
  } catch {
    return '';
  }
}
