import type { IncomingHttpHeaders } from 'node:http';
import { KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import { Value } from 'typebox/value';

/** On whose behalf a request is made: what it may see, and who owns what it creates. */
export type Caller =
  /** `owner` null: what the request creates has no owner, so only callers that see everything see it. */
  { readonly sees: 'all'; readonly owner: Owner } | { readonly sees: 'own'; readonly owner: KeyId };

/** May do everything: the operator of a service without keys, and the services among themselves. */
export const EVERYTHING: Caller = Object.freeze({ owner: null, sees: 'all' });

/** Whether the caller may use something with this owner. If not, the answer is the same as if it did not exist. */
export function mayUse(caller: Caller, owner: Owner | undefined): boolean {
  return caller.sees === 'all' || owner === caller.owner;
}

const OWNER_HEADER = 'x-lorasmith-owner';
const SEES_HEADER = 'x-lorasmith-sees';

/**
 * The headers by which the api passes the caller to the registry. They replace any that a client sent, and only the api
 * can reach the registry.
 */
export function callerHeaders({ owner, sees }: Caller): Record<string, string> {
  return { [OWNER_HEADER]: owner ?? '', [SEES_HEADER]: sees };
}

/**
 * Reads {@link callerHeaders}; {@link EVERYTHING} for a request that did not come through the api.
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
