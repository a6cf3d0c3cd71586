import { ROLES, type Role } from '@lorasmith/contracts';

/** What a call needs: nothing, any key, a key of one of these roles, or one that sees everybody's things. */
export type RouteAccess = 'public' | 'any-key' | 'sees-all' | readonly Role[];

/** Health for supervisors, and the documentation, which is the same everywhere and which browsers open without a key. */
const PUBLIC = /^\/(live|ready|openapi\.json|docs(\/.*)?)$/;
/** Figures about everybody's work. */
const ABOUT_ALL = /^\/metrics$/;
const READING = ['GET', 'HEAD'];
const CHANGING: readonly Role[] = ROLES.filter((role) => role !== 'read');

/**
 * What a route asks for, by its pattern and method. Everything that is not said to be open is closed, so that a new route
 * is.
 * @param pattern - Of the route; undefined where none matched
 */
export function accessOf(pattern: string | undefined, method: string): RouteAccess {
  if (pattern !== undefined && PUBLIC.test(pattern)) return 'public';
  if (pattern !== undefined && ABOUT_ALL.test(pattern)) return 'sees-all';
  return READING.includes(method) ? 'any-key' : CHANGING;
}
