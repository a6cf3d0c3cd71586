import { ProductError } from '@lorasmith/contracts';

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|::1)$/;

/**
 * Whoever reaches the api may do everything, since it asks for no key: it leaves the loopback only if it is told that
 * strangers are kept away.
 *
 * @throws ProductError `invalid_configuration`
 */
export function checkListenAddress({ host, trustNetwork }: { host: string; trustNetwork: boolean }): void {
  if (trustNetwork || LOOPBACK.test(host)) return;
  throw new ProductError(
    'invalid_configuration',
    `API_HOST ${JSON.stringify(host)}: is not an address of this machine alone, and the api asks for no key; listen on ` +
      '127.0.0.1, or set API_TRUST_NETWORK=true where something in front of it keeps strangers away',
    { param: 'API_HOST' },
  );
}
