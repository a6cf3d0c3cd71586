import type { IncomingHttpHeaders } from 'node:http';
import { KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import { Value } from 'typebox/value';

/** The identity behind a request: which things it may see, and who owns the things that it creates. */
export type Caller =
  /** `owner` null: the things that the request creates have no owner, and only callers that see everything see them. */
  { readonly sees: 'all'; readonly owner: Owner } | { readonly sees: 'own'; readonly owner: KeyId };

/** A caller with every permission: the operator of a service without keys, and the services themselves. */
export const EVERYTHING: Caller = Object.freeze({ owner: null, sees: 'all' });

/** Whether the caller may use a thing with this owner. If not, the answer is the same as for one that does not exist. */
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
