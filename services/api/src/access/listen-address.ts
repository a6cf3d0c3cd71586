import { ProductError } from '@lorasmith/contracts';
import type { WithoutKeys } from './authenticate.js';
import type { KeyStore } from './key-store.js';
import { isLoopback } from './open-requests.js';

export interface ListenAddress {
  /** Where the process listens. */
  host: string;
  /** Where others reach it, if that is another address: that of a container's published port. Empty: the same. */
  publishedHost: string;
  /** Something in front of it keeps strangers away. */
  trustNetwork: boolean;
}

/** What a service at this address may answer as long as there are no keys. */
export function withoutKeysAt({ host, publishedHost, trustNetwork }: ListenAddress): WithoutKeys {
  if (trustNetwork) return 'everything';
  return isLoopback(publishedHost || host) ? 'loopback' : 'refuse';
}

/**
 * Others than this machine are served only where there are keys to tell them apart. While Redis is away that cannot be
 * found out; then every request is refused until it is back.
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
      'Make one first: npm run keys -- create --name NAME --role admin; for containers: ' +
      'docker compose run --rm api node services/api/dist/keys.js create --name NAME --role admin. ' +
      'Or listen on 127.0.0.1.',
    { param },
  );
}
