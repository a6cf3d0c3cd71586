import { hostname } from 'node:os';
import { type Context, ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { setGlobalErrorHandler, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { HttpApp } from './http-app.js';
import type { TraceCarrier, Tracing } from './tracing.js';
import { PRODUCT_VERSION } from './version.js';

export interface OtlpTracingOptions {
  /** The address without the path `/v1/traces`. */
  endpoint: string;
  service: string;
  logger: Logger;
}

const KINDS = { internal: SpanKind.INTERNAL, producer: SpanKind.PRODUCER, consumer: SpanKind.CONSUMER };
const EXPORT_TIMEOUT_MS = 3_000;
/** An unavailable collector is logged once a minute, not once a batch. */
const WARN_EVERY_MS = 60_000;

const textMap = {
  get: (carrier: TraceCarrier, key: string) => carrier[key],
  keys: (carrier: TraceCarrier) => Object.keys(carrier),
  set: (carrier: TraceCarrier, key: string, value: string) => {
    carrier[key] = value;
  },
};

/**
 * Sends spans in batches to an OTLP/HTTP collector, as JSON. Spans that the collector does not accept in time are dropped:
 * tracing must not delay the traced work. The library itself reads `OTEL_TRACES_SAMPLER` and `OTEL_EXPORTER_OTLP_HEADERS`.
 */
export function openOtlpTracing({ endpoint, service, logger }: OtlpTracingOptions): Tracing {
  let warnedAt = Number.NEGATIVE_INFINITY;
  setGlobalErrorHandler((error) => {
    if (performance.now() - warnedAt < WARN_EVERY_MS) return;
    warnedAt = performance.now();
    logger.warn({ err: error }, 'traces cannot be sent to OTEL_EXPORTER_OTLP_ENDPOINT');
  });
  const exporter = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/$/, '')}/v1/traces`,
    timeoutMillis: EXPORT_TIMEOUT_MS,
  });
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({
      'service.name': `lorasmith-${service}`,
      'service.version': PRODUCT_VERSION,
      'service.instance.id': `${hostname()}:${process.pid}`,
    }),
    spanProcessors: [new BatchSpanProcessor(exporter, { exportTimeoutMillis: EXPORT_TIMEOUT_MS })],
  });
  const tracer = provider.getTracer('lorasmith', PRODUCT_VERSION);
  const contexts = new AsyncLocalStorageContextManager().enable();
  const propagator = new W3CTraceContextPropagator();
  const parentOf = (carrier: TraceCarrier) => propagator.extract(ROOT_CONTEXT, carrier, textMap);
  const within = (context: Context, span: Span) => trace.setSpan(context, span);

  return {
    async span(name, { parent, kind = 'internal', attributes = {} }, work) {
      const context = parent === undefined ? contexts.active() : parentOf(parent);
      const span = tracer.startSpan(name, { kind: KINDS[kind], attributes }, context);
      try {
        return await contexts.with(within(context, span), work);
      } catch (error) {
        if (error instanceof Error) span.recordException(error);
        span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
        throw error;
      } finally {
        span.end();
      }
    },
    carry() {
      const carrier: TraceCarrier = {};
      propagator.inject(contexts.active(), carrier, textMap);
      return carrier;
    },
    traceRequests: (app) =>
      traceRequests(app, {
        start(name, parent, attributes) {
          const context = parentOf(parent);
          const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, context);
          return { span, context: within(context, span) };
        },
        run: (context, work) => contexts.with(context, work),
      }),
    async close() {
      await provider.shutdown().catch((error: unknown) => logger.warn({ err: error }, 'the last traces were not sent'));
    },
  };
}

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
