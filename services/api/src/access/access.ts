import { type Owner, ProductError, ROLES, type Role } from '@lorasmith/contracts';
import { type Caller, type HttpApp, mayUse } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { Redis } from 'ioredis';
import type { WithoutKeys } from './authenticate.js';
import { type Authenticator, createAuthenticator, type Identity, WITHOUT_KEY } from './authenticate.js';
import { type ByteReservations, createByteReservations } from './byte-quota.js';
import type { KeyStore } from './key-store.js';
import { type AccessLimits, createRateLimit, limitsOf, NO_LIMITS, type RateLimit } from './limits.js';

/** Authentication, rate limit, quotas and limits. */
export interface Access {
  authenticator: Authenticator;
  /** Null: calls are not limited. */
  rateLimit: RateLimit | null;
  /** Null: concurrent uploads do not count against each other's quota. */
  reservations: ByteReservations | null;
  limits: AccessLimits;
}

export interface AccessOptions {
  redis: Redis;
  prefix: string;
  keys: KeyStore;
  withoutKeys: WithoutKeys;
  limits: AccessLimits;
  /** Time limit of an upload. */
  uploadTimeoutMs: number;
}

/** A reservation outlasts the time limit of its upload by this time. */
const UPLOAD_GRACE_MS = 60_000;

export function createAccess(options: AccessOptions): Access {
  const { redis, prefix, keys, withoutKeys, limits, uploadTimeoutMs } = options;
  return {
    authenticator: createAuthenticator({ keys, withoutKeys }),
    rateLimit: createRateLimit({ redis, prefix }),
    reservations: createByteReservations({ redis, prefix, durationMs: uploadTimeoutMs + UPLOAD_GRACE_MS }),
    limits,
  };
}

/** Allows everything, for an application that does not listen. */
export const OPEN_ACCESS: Access = Object.freeze({
  authenticator: createAuthenticator({ keys: null, withoutKeys: 'everything' }),
  rateLimit: null,
  reservations: null,
  limits: NO_LIMITS,
});

declare module 'fastify' {
  interface FastifyRequest {
    /** The sender of the request. Set before any handler runs. */
    identity: Identity;
    caller: Caller;
    /** The limits of the sender. */
    limits: AccessLimits;
  }
}

/** Things under a path that have an owner. */
export interface OwnedThings {
  /** Route pattern of one of them: only its owner gets answers at it and below it. */
  path: string;
  /** Undefined if it does not exist. @throws ProductError as `notFound` for an invalid id */
  ownerOf(id: string): Promise<Owner | undefined>;
  /** The error for one that does not exist. */
  notFound(id: string): ProductError;
}

export interface GuardOptions {
  authenticator: Authenticator;
  /** Null: calls are not limited. */
  rateLimit: RateLimit | null;
  limits: AccessLimits;
  owned: readonly OwnedThings[];
}

/**
 * Checks every request before its handler: authentication, rate limit, role, and ownership of the thing in the path. Routes
 * need no code for that, and a route that is not declared public requires a key.
 */
export function guardRequests(app: HttpApp, { authenticator, rateLimit, limits, owned }: GuardOptions): void {
  app.decorateRequest('identity');
  app.decorateRequest('caller');
  app.decorateRequest('limits');

  const admit = async (request: FastifyRequest): Promise<Identity> => {
    const access = accessOf(request.routeOptions.url, request.method);
    if (access === 'public') return WITHOUT_KEY;
    const identity = await authenticator.identify(request.headers);
    const { key } = identity;
    if (key !== null) await rateLimit?.count(key.id, limitsOf(identity, limits).requestsPerMinute);
    checkAccess(identity, access);
    return identity;
  };

  app.addHook('onRequest', async (request) => {
    const identity = await admit(request);
    request.identity = identity;
    request.caller = identity.caller;
    request.limits = limitsOf(identity, limits);
  });

  app.addHook('preHandler', async ({ caller, params, routeOptions: { url } }) => {
    if (caller.sees === 'all' || url === undefined) return;
    const things = owned.find(({ path }) => url === path || url.startsWith(`${path}/`));
    const { id } = (params ?? {}) as { id?: string };
    if (things === undefined || id === undefined) return;
    const owner = await things.ownerOf(id);
    if (owner === undefined || !mayUse(caller, owner)) throw things.notFound(id);
  });
}

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

/** @throws ProductError `forbidden` */
function checkAccess({ key, caller }: Identity, access: RouteAccess): void {
  if (key === null || access === 'public' || access === 'any-key') return;
  if (access === 'sees-all') {
    if (caller.sees === 'all') return;
    throw new ProductError('forbidden', 'This call shows data of all keys. It needs a key that sees everything.');
  }
  if (access.includes(key.role)) return;
  const message = `The role ${key.role} does not allow this call. It needs the role ${access.join(' or ')}.`;
  throw new ProductError('forbidden', message);
}
