import { ProductError } from '@lorasmith/contracts';
import { type Caller, EVERYTHING } from '@lorasmith/service-kit';
import type { KeyRecord } from './key-record.js';
import type { RouteAccess } from './route-access.js';

/** The sender of a request. */
export interface Identity {
  caller: Caller;
  /** Null if no key was required. */
  key: KeyRecord | null;
}

/** Full access without a key: while no key exists, and on public routes. */
export const WITHOUT_KEY: Identity = Object.freeze({ caller: EVERYTHING, key: null });

/** The identity of a key: what it sees, and the owner of what it creates. */
export function identityOf(key: KeyRecord): Identity {
  if (key.owner === 'all') return { key, caller: { sees: 'all', owner: null } };
  return { key, caller: { sees: key.role === 'admin' ? 'all' : 'own', owner: key.owner } };
}

/** @throws ProductError `forbidden` */
export function checkAccess({ key, caller }: Identity, access: RouteAccess): void {
  if (key === null || access === 'public' || access === 'any-key') return;
  if (access === 'sees-all') {
    if (caller.sees === 'all') return;
    throw new ProductError('forbidden', 'This call shows data of all keys. It needs a key that sees everything.');
  }
  if (access.includes(key.role)) return;
  const message = `The role ${key.role} does not allow this call. It needs the role ${access.join(' or ')}.`;
  throw new ProductError('forbidden', message);
}
