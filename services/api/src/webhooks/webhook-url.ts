import { isIP } from 'node:net';
import { ProductError } from '@lorasmith/contracts';
import { isPublicAddress } from './public-address.js';

/** Names that mean this machine or its network, whatever a resolver says. */
const LOCAL_NAMES = /(^|\.)(localhost|local|internal|localdomain|home\.arpa|lan)\.?$/;
/** Lower ports belong to services of other protocols. */
const FIRST_FREE_PORT = 1024;

/**
 * Checks where a webhook is to be sent, as far as that is known without a resolver.
 * @param allowPrivate - Addresses of this network, and http.
 * @param param - Where the address is in a request. @defaultValue `webhook.url`
 * @throws ProductError `invalid_job`
 */
export function checkWebhookUrl(
  text: string,
  { allowPrivate, param = 'webhook.url' }: { allowPrivate: boolean; param?: string },
): URL {
  const refused = (what: string) => new ProductError('invalid_job', `The webhook's URL ${what}.`, { param });
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null) throw refused('is not a URL');
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && allowPrivate))
    throw refused('must start with https://');
  if (url.username !== '' || url.password !== '') throw refused('must have no user name or password');
  if (url.hash !== '') throw refused('must have no #fragment');
  if (url.port !== '' && url.port !== '80' && url.port !== '443' && Number(url.port) < FIRST_FREE_PORT) {
    throw refused(`must have the port 443, 80, or one from ${FIRST_FREE_PORT} on`);
  }
  if (!allowPrivate && isLocal(hostOf(url))) {
    throw refused('is in a private network, to which this service sends nothing');
  }
  return url;
}

/** The host without the brackets of an IPv6 address. The URL parser has made an address of its decimal and hexadecimal forms. */
export function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, '');
}

function isLocal(host: string): boolean {
  return isIP(host) === 0 ? LOCAL_NAMES.test(host) || !host.includes('.') : !isPublicAddress(host);
}
