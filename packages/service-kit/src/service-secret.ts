import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import { hostNameOf, isSafeName } from './own-names.js';

const SECRET_HEADER = 'x-lorasmith-secret';

/** The header by which the registry knows the api. It replaces a header of the same name from the client. */
export function serviceSecretHeaders(secret: string | null): Record<string, string> {
  return { [SECRET_HEADER]: secret ?? '' };
}

/**
 * Checks that a request comes from a service of the same installation.
 *
 * @param secret - null: every sender that reaches the port counts as one, but for pages of other sites
 * @throws ProductError `unauthorized`, `forbidden`
 */
export function checkServiceRequest(headers: IncomingHttpHeaders, secret: string | null): void {
  if (secret === null) {
    checkNotRebound(headers);
    return;
  }
  const given = headers[SECRET_HEADER];
  if (typeof given === 'string' && timingSafeEqual(digest(given), digest(secret))) return;
  throw new ProductError(
    'unauthorized',
    'Only the api may call the registry: ask the api instead. If this is the api, both need the same SERVICE_SECRET or DATA_DIR.',
  );
}

/**
 * Refuses a request under a name that another site can have (DNS rebinding).
 *
 * @throws ProductError `forbidden`
 */
export function checkNotRebound({ host }: IncomingHttpHeaders): void {
  if (isSafeName(hostNameOf(`http://${host}`))) return;
  throw new ProductError('forbidden', 'This service answers only under an address, or a name of its own network.');
}

/** All have the same length, as `timingSafeEqual` demands. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
