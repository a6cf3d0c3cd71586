import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';
import { askedGraderOf, type JobRequest, ProductError } from '@lorasmith/contracts';

export interface WebhookConfig {
  /** The address to which the ends of all jobs are sent, besides the webhooks of the jobs; null: none. */
  url: string | null;
  /** `whsec_…`; null: no webhooks. */
  secret: string | null;
  /** True if they may go to private addresses, and over http. */
  allowPrivate: boolean;
}

export const NO_WEBHOOKS: WebhookConfig = { url: null, secret: null, allowPrivate: false };

/** Checks the settings against each other. @throws ProductError `invalid_configuration` */
export function checkWebhookConfig({ url, secret, allowPrivate }: WebhookConfig): void {
  if (url === null) return;
  if (secret === null) throw wrong('WEBHOOK_SECRET', 'must be set, since WEBHOOK_URL is');
  try {
    checkWebhookUrl(url, { allowPrivate });
  } catch (error) {
    throw wrong('WEBHOOK_URL', `cannot be used: ${(error as Error).message}`);
  }
}

/** @throws ProductError `invalid_job` for a job of which a webhook cannot be sent: that of its end, or that of its grader */
export function checkWebhooksOf(
  { webhook, objective }: Pick<JobRequest, 'webhook' | 'objective'>,
  { secret, allowPrivate }: WebhookConfig,
): void {
  const grader = objective?.grader === undefined ? null : askedGraderOf(objective.grader);
  const ofGrader = grader?.kind === 'webhook' ? grader : null;
  if (webhook == null && ofGrader === null) return;
  if (secret === null) {
    const [param, instead] =
      webhook == null ? ['objective.grader', 'Use another grader.'] : ['webhook', 'Leave webhook out.'];
    const message = `This service sends no webhooks: its operator has to set WEBHOOK_SECRET. ${instead}`;
    throw new ProductError('invalid_job', message, { param });
  }
  if (webhook != null) checkWebhookUrl(webhook.url, { allowPrivate });
  if (ofGrader !== null) checkWebhookUrl(ofGrader.url, { allowPrivate, param: 'objective.grader.url' });
}

function wrong(param: string, what: string): ProductError {
  return new ProductError('invalid_configuration', `The environment is invalid:\n  ${param} ${what}`, { param });
}

/** Names that mean this machine or its network, whatever a resolver says. */
const LOCAL_NAMES = /(^|\.)(localhost|local|internal|localdomain|home\.arpa|lan)\.?$/;
/** Lower ports belong to services of other protocols. */
const FIRST_FREE_PORT = 1024;

/**
 * Checks the address of a webhook, as far as that is possible without a resolver.
 * @param allowPrivate - Addresses of this network, and http.
 * @param param - The field of a request that has the address. @defaultValue `webhook.url`
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

/** IPv4 ranges that are not on the public internet (IANA's special-purpose registry, multicast and reserved). */
const NOT_PUBLIC_V4: readonly [network: string, prefix: number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];

/** Ranges within 2000::/3, the only public range of IPv6, that have other uses or carry an IPv4 address. */
const NOT_PUBLIC_V6: readonly [network: string, prefix: number][] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

const notPublicV4 = new BlockList();
for (const [network, prefix] of NOT_PUBLIC_V4) notPublicV4.addSubnet(network, prefix, 'ipv4');
const globalV6 = new BlockList();
globalV6.addSubnet('2000::', 3, 'ipv6');
const notPublicV6 = new BlockList();
for (const [network, prefix] of NOT_PUBLIC_V6) notPublicV6.addSubnet(network, prefix, 'ipv6');

/**
 * True if an IP address is one of the public internet. An IPv4 address within an IPv6 one (mapped, 6to4, NAT64) is not, whatever it is:
 * a resolver has no reason to give such a one.
 */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !notPublicV4.check(address, 'ipv4');
  if (!isIPv6(address)) return false;
  return globalV6.check(address, 'ipv6') && !notPublicV6.check(address, 'ipv6');
}
