import { ROLES, type Role } from '@lorasmith/contracts';

/** The access that a route requires: none, any key, a key with one of these roles, or a key that sees everything. */
export type RouteAccess = 'public' | 'any-key' | 'sees-all' | readonly Role[];

/** Health for supervisors, and what browsers open without a key: the page and the documentation. */
const PUBLIC = /^\/(live|ready|openapi\.json|docs(\/.*)?|assets\/:name)?$/;
/** Data of all keys. */
const ABOUT_ALL = /^\/metrics$/;
/** Base models, which all keys share. */
const SHARED = /^\/model-pulls(\/|$)/;
/** The secret of the key, so not for a key that only reads. */
const SECRET = /^\/webhook-secret$/;
const READING = ['GET', 'HEAD'];
const CHANGING: readonly Role[] = ROLES.filter((role) => role !== 'read');

/**
 * The required access of a route. A route that is not listed here requires a key.
 * @param pattern - Pattern of the route; undefined if no route matched
 */
export function accessOf(pattern: string | undefined, method: string): RouteAccess {
  if (pattern !== undefined && PUBLIC.test(pattern)) return 'public';
  if (pattern !== undefined && ABOUT_ALL.test(pattern)) return 'sees-all';
  if (pattern !== undefined && SECRET.test(pattern)) return CHANGING;
  if (READING.includes(method)) return 'any-key';
  return pattern !== undefined && SHARED.test(pattern) ? ['admin'] : CHANGING;
}
