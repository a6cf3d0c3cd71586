import type { FastifyRequest } from 'fastify';
import type { HttpApp } from '../http-app.js';
import { Counter, Histogram, type Registry } from './create-metrics.js';

/** Buckets from a read in Redis to a merge during a request. */
const ANSWER_SECONDS = [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300];
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/**
 * Counts and times every request by the pattern of its route, never by its path: clients must not be able to create
 * series. Call it before the routes are registered.
 */
export function observeHttp(app: HttpApp, metrics: Registry): void {
  const requests = new Counter({
    name: 'lorasmith_http_requests_total',
    help: 'Requests that were answered, by route and status.',
    labelNames: ['method', 'route', 'status'],
    registers: [metrics],
  });
  const seconds = new Histogram({
    name: 'lorasmith_http_answer_seconds',
    help: 'Time from the head of a request to the first byte of its answer; an upload in between counts.',
    labelNames: ['method', 'route'],
    buckets: ANSWER_SECONDS,
    registers: [metrics],
  });
  // The end of the answer would not do: a stream of events lasts as long as its job.
  app.addHook('onSend', (request, reply, payload, done) => {
    seconds.observe(labelsOf(request), reply.elapsedTime / 1000);
    done(null, payload);
  });
  app.addHook('onResponse', async (request, reply) => {
    requests.inc({ ...labelsOf(request), status: reply.statusCode });
  });
}

function labelsOf({ method, routeOptions }: FastifyRequest): { method: string; route: string } {
  return { method: METHODS.has(method) ? method : 'other', route: routeOptions.url ?? 'none' };
}
