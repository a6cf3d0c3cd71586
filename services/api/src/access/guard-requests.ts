import type { Owner, ProductError } from '@lorasmith/contracts';
import { type Caller, endUpload, type HttpApp, mayUse } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Authenticator } from './authenticate.js';
import { checkAccess, type Identity, WITHOUT_KEY } from './identity.js';
import { type AccessLimits, limitsOf } from './limits.js';
import type { RateLimit } from './rate-limit.js';
import { accessOf } from './route-access.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Whose request it is; set before any handler runs. */
    identity: Identity;
    caller: Caller;
    /** The limits of whoever makes the request. */
    limits: AccessLimits;
  }
}

/** Things under a path that belong to somebody. */
export interface OwnedThings {
  /** Pattern of one of them: it and everything below it is answered to its owner only. */
  path: string;
  /** Undefined where there is no such thing. @throws ProductError as `notFound` for what cannot be an id */
  ownerOf(id: string): Promise<Owner | undefined>;
  /** What is answered where there is none. */
  notFound(id: string): ProductError;
}

export interface GuardOptions {
  authenticator: Authenticator;
  /** Null: calls are not counted. */
  rateLimit: RateLimit | null;
  limits: AccessLimits;
  owned: readonly OwnedThings[];
}

/**
 * Looks at every request before anything else does: whose it is, whether they may do this, whether they have done too
 * much of it, and whether the thing it names is theirs. A route needs to do nothing for that; what is not said to be open
 * is closed.
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

  app.addHook('onRequest', async (request, reply) => {
    const identity = await admit(request).catch((error: unknown) => refuse(request, reply, error));
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

/** A body is not read on for whoever may not send it, but for a moment, so that they get to read the answer. */
async function refuse(request: FastifyRequest, reply: FastifyReply, error: unknown): Promise<never> {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = request.headers;
  if (length !== '0' || encoding !== undefined) await endUpload(request, reply);
  throw error;
}
