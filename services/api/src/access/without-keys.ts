import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import { hostNameOf, isLoopback, isOwnName } from '@lorasmith/service-kit';
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
