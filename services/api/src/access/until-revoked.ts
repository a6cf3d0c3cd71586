import type { FastifyRequest } from 'fastify';
import type { Authenticator } from './authenticate.js';

const LOOK_EVERY_MS = 5_000;

/**
 * Aborted once the key of the request is no longer valid: for answers that last, which nothing else would end. Looking
 * ends with `over`.
 */
export function untilRevoked(
  authenticator: Authenticator,
  request: FastifyRequest,
  over: AbortSignal,
  lookEveryMs = LOOK_EVERY_MS,
): AbortSignal {
  const revoked = new AbortController();
  if (request.identity.key === null) return revoked.signal;
  const timer = setInterval(() => {
    authenticator.stillValid(request.headers).then(
      (valid) => {
        if (!valid) revoked.abort();
      },
      () => {},
    );
  }, lookEveryMs);
  const end = () => clearInterval(timer);
  for (const signal of [over, revoked.signal]) signal.addEventListener('abort', end, { once: true });
  if (over.aborted) end();
  return revoked.signal;
}
