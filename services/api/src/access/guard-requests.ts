import type { Owner, ProductError } from '@lorasmith/contracts';
import { type Caller, type HttpApp, mayUse } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import type { Authenticator } from './authenticate.js';
import { checkAccess, type Identity, WITHOUT_KEY } from './identity.js';
import { type AccessLimits, limitsOf } from './limits.js';
import type { RateLimit } from './rate-limit.js';
import { accessOf } from './route-access.js';

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
