import type { HttpApp } from './http-app.js';

/** The headers of W3C Trace Context that name a span: `traceparent`, and `tracestate` where there is one. */
export type TraceCarrier = Record<string, string>;

export interface SpanOptions {
  /** The parent span. @defaultValue the current one */
  parent?: TraceCarrier | undefined;
  /** @defaultValue internal */
  kind?: 'internal' | 'producer' | 'consumer';
  attributes?: Readonly<Record<string, string | number>>;
}

/** Reports spans to a collector: the nesting of the work and its duration. */
export interface Tracing {
  /** Runs the work in a new span. An error of the work is recorded in the span and rethrown. */
  span<Result>(name: string, options: SpanOptions, work: () => Promise<Result>): Promise<Result>;
  /** The current span, to pass to other processes; empty without tracing. */
  carry(): TraceCarrier;
  /** Creates a span for every request of the application. Call it before the routes are registered. */
  traceRequests(app: HttpApp): void;
  /** Sends the remaining spans; never rejects. */
  close(): Promise<void>;
}

/** Traces nothing and loads nothing. */
export const NO_TRACING: Tracing = {
  span: (_name, _options, work) => work(),
  carry: () => ({}),
  traceRequests: () => {},
  close: async () => {},
};
