import { type Context, type Span, SpanStatusCode } from '@opentelemetry/api';
import type { FastifyRequest } from 'fastify';
import type { HttpApp } from '../http-app.js';
import type { TraceCarrier } from './tracing.js';

export interface RequestSpans {
  start(
    name: string,
    parent: TraceCarrier,
    attributes: Record<string, string>,
  ): {
    span: Span;
    /** Contains the span. */
    context: Context;
  };
  run(context: Context, work: () => void): void;
}

/** Polled constantly, and not traced. */
const UNTRACED = new Set(['/live', '/ready', '/metrics']);

/**
 * Creates a span for every request, as a child of the span in its `traceparent`, and runs the request in its context.
 * Events of the socket run outside this context, so it is entered again once the body has arrived.
 */
export function traceRequests(app: HttpApp, spans: RequestSpans): void {
  const traced = new WeakMap<FastifyRequest, ReturnType<RequestSpans['start']>>();
  app.addHook('onRequest', (request, _reply, done) => {
    const route = request.routeOptions.url ?? 'none';
    if (UNTRACED.has(route)) return done();
    const started = spans.start(`${request.method} ${route}`, carrierOf(request), {
      'http.request.method': request.method,
      'http.route': route,
      'url.path': request.url.split('?', 1)[0] ?? '',
      'lorasmith.request_id': request.id,
    });
    traced.set(request, started);
    spans.run(started.context, done);
  });
  app.addHook('preValidation', (request, _reply, done) => {
    const started = traced.get(request);
    if (started === undefined) done();
    else spans.run(started.context, done);
  });
  const end = (request: FastifyRequest, status: number | null) => {
    const span = traced.get(request)?.span;
    if (status === null) span?.setStatus({ code: SpanStatusCode.ERROR, message: 'the client disconnected' });
    else span?.setAttribute('http.response.status_code', status);
    if (status !== null && status >= 500) span?.setStatus({ code: SpanStatusCode.ERROR });
    span?.end();
    traced.delete(request);
  };
  app.addHook('onResponse', async (request, reply) => end(request, reply.statusCode));
  app.addHook('onRequestAbort', async (request) => end(request, null));
}

function carrierOf({ headers }: FastifyRequest): TraceCarrier {
  const { traceparent, tracestate } = headers;
  return {
    ...(typeof traceparent === 'string' ? { traceparent } : {}),
    ...(typeof tracestate === 'string' ? { tracestate } : {}),
  };
}
