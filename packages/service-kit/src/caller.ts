import type { IncomingHttpHeaders } from 'node:http';
import { KeyId, type Owner, ProductError } from '@lorasmith/contracts';
import { Value } from 'typebox/value';

/** Whose request it is, as far as what it may see and make is concerned. */
export type Caller =
  /** What the request makes belongs to `owner`; null: to nobody, so that only who sees all sees it. */
  { readonly sees: 'all'; readonly owner: Owner } | { readonly sees: 'own'; readonly owner: KeyId };

/** Who may do everything: the operator of a service without keys, and the services among each other. */
export const EVERYTHING: Caller = Object.freeze({ owner: null, sees: 'all' });

/** Whether a thing with this owner is there for the caller. To whom it is not, it is answered like one that is not there. */
export function mayUse(caller: Caller, owner: Owner | undefined): boolean {
  return caller.sees === 'all' || owner === caller.owner;
}

const OWNER_HEADER = 'x-lorasmith-owner';
const SEES_HEADER = 'x-lorasmith-sees';

/**
 * How the api tells the registry whose request it forwards. It writes both headers into every request, over whatever a
 * client sent under these names; the registry is reached by nobody else.
 */
export function callerHeaders({ owner, sees }: Caller): Record<string, string> {
  return { [OWNER_HEADER]: owner ?? '', [SEES_HEADER]: sees };
}

/**
 * The caller that {@link callerHeaders} told of; {@link EVERYTHING} for a request that did not come through the api.
 * @throws ProductError `invalid_request`
 */
export function callerOfHeaders(headers: IncomingHttpHeaders): Caller {
  const owner = headers[OWNER_HEADER];
  const sees = headers[SEES_HEADER];
  if (owner === undefined && sees === undefined) return EVERYTHING;
  if (sees === 'all' && owner === '') return EVERYTHING;
  if ((sees === 'all' || sees === 'own') && Value.Check(KeyId, owner)) return { sees, owner };
  throw new ProductError('invalid_request', `${OWNER_HEADER} and ${SEES_HEADER} are for the api to send.`);
}
