import type { HttpApp } from '../http-app.js';

/** The headers of W3C Trace Context that name a span: `traceparent`, and `tracestate` where there is one. */
export type TraceCarrier = Record<string, string>;

export interface SpanOptions {
  /** Whose work it is a part of. @defaultValue the span that runs now */
  parent?: TraceCarrier | undefined;
  /** @defaultValue internal */
  kind?: 'internal' | 'producer' | 'consumer';
  attributes?: Readonly<Record<string, string | number>>;
}

/** Tells a collector which work was part of which, and how long it took. */
export interface Tracing {
  /** Does the work within a span of its own. What the work throws is noted there and thrown on. */
  span<Result>(name: string, options: SpanOptions, work: () => Promise<Result>): Promise<Result>;
  /** Names the span that runs now, for work that is done elsewhere; empty when nothing is traced. */
  carry(): TraceCarrier;
  /** Makes a span of every request of the application. Call it before the routes are registered. */
  traceRequests(app: HttpApp): void;
  /** Sends what has not been sent yet; never rejects. */
  close(): Promise<void>;
}

/** Nothing is traced, and nothing is loaded for it. */
export const NO_TRACING: Tracing = {
  span: (_name, _options, work) => work(),
  carry: () => ({}),
  traceRequests: () => {},
  close: async () => {},
};
