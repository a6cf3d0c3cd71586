import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|::1|\[::1\])$/;

/** Whether the address is one that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/**
 * Of a request that needs no key since only this machine can send one: that it is not a web page's. A page of another
 * site could send some requests by itself (cross-site request forgery), and with a name of its own that leads to the
 * loopback address all of them (DNS rebinding); neither looks like a request to this machine's own names.
 *
 * @throws ProductError `forbidden`
 */
export function checkOpenRequest({ host, origin, 'sec-fetch-site': site }: IncomingHttpHeaders): void {
  if (!isOwnName(hostNameOf(`http://${host}`))) {
    const message =
      "Without API keys this service answers only under this machine's own names, such as 127.0.0.1 and localhost. Make a key " +
      '(npm run keys) to use another name.';
    throw new ProductError('forbidden', message);
  }
  const foreign = (origin !== undefined && !isOwnName(hostNameOf(origin))) || site === 'cross-site';
  if (foreign) {
    throw new ProductError('forbidden', 'Without API keys this service refuses requests from pages of other sites.');
  }
}

/** A loopback name, or one without a dot, as containers have for each other: nobody elsewhere can have such a one. */
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
