import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import { Value } from 'typebox/value';

/** The identity behind a request: which things it may see, and who owns the things that it creates. */
export type Caller =
  /** `owner` null: the things that the request creates have no owner, and only callers that see everything see them. */
  { readonly sees: 'all'; readonly owner: Owner } | { readonly sees: 'own'; readonly owner: KeyId };

/** A caller with every permission: the operator of a service without keys, and the services themselves. */
export const EVERYTHING: Caller = Object.freeze({ owner: null, sees: 'all' });

/** The caller for work that an owner has asked for before. Without keys, everything belongs to all. */
export function callerOfOwner(owner: Owner): Caller {
  return owner === null ? EVERYTHING : { sees: 'own', owner };
}

/** True if the caller may use a thing with this owner. If not, the answer is the same as for one that does not exist. */
export function mayUse(caller: Caller, owner: Owner | undefined): boolean {
  return caller.sees === 'all' || owner === caller.owner;
}

/** The owner whose things alone the caller may list; undefined: those of all. */
export function visibleOwner({ sees, owner }: Caller): Owner | undefined {
  return sees === 'all' ? undefined : owner;
}

const OWNER_HEADER = 'x-lorasmith-owner';
const SEES_HEADER = 'x-lorasmith-sees';

/**
 * The headers in which the api passes the caller to the registry. They replace headers of the same name from the client.
 * Only the api can reach the registry.
 */
export function callerHeaders({ owner, sees }: Caller): Record<string, string> {
  return { [OWNER_HEADER]: owner ?? '', [SEES_HEADER]: sees };
}

/**
 * Reads {@link callerHeaders}; returns {@link EVERYTHING} for a request that did not come through the api.
 * @throws ProductError `invalid_request`
 */
export function callerOfHeaders(headers: IncomingHttpHeaders): Caller {
  const owner = headers[OWNER_HEADER];
  const sees = headers[SEES_HEADER];
  if (owner === undefined && sees === undefined) return EVERYTHING;
  if (sees === 'all' && owner === '') return EVERYTHING;
  if ((sees === 'all' || sees === 'own') && Value.Check(KeyId, owner)) return { sees, owner };
  throw new ProductError('invalid_request', `Only the api may send ${OWNER_HEADER} and ${SEES_HEADER}.`);
}

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

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|::1|\[::1\])$/;

/** True if only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/** True for a loopback name, or a name without a dot as containers use: no other site can have such a name. */
export function isOwnName(name: string): boolean {
  return isLoopback(name) || /^[a-z0-9_-]+$/i.test(name);
}

/** True for an own name or any IP address: the names under which no page of another site can reach a service. */
export function isSafeName(name: string): boolean {
  return isOwnName(name) || isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0;
}

/** The name in an address, without its port; empty if it is no address. */
export function hostNameOf(address: string): string {
  try {
    return new URL(address).hostname;
  } catch {
    return '';
  }
}
