import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { type TSchema, Type } from 'typebox';
import type { HttpApp } from '../http-app.js';
import { PRODUCT_VERSION } from '../version.js';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface MetricsOptions {
  /** Name of the service. */
  service: string;
}

/**
 * The metrics of a process: memory, processor time, event loop, garbage collection, and whatever is registered with it.
 * Every label must have few values; ids of jobs and adapters belong in the log.
 */
export function createMetrics({ service }: MetricsOptions): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'lorasmith_build_info',
    help: 'Always 1; the labels name the service and its version.',
    labelNames: ['service', 'version', 'node'],
    registers: [registry],
  }).set({ service, version: PRODUCT_VERSION, node: process.versions.node }, 1);
  return registry;
}

export interface MetricsRouteOptions {
  metrics: Registry;
}

const response: Record<number, TSchema | object> = {
  200: {
    description: "Prometheus' text format.",
    content: { 'text/plain': { schema: Type.String() } },
  },
};

/** `GET /metrics`, for Prometheus. */
export async function metricsRoute(app: HttpApp, { metrics }: MetricsRouteOptions): Promise<void> {
  app.get(
    '/metrics',
    { schema: { operationId: 'getMetrics', summary: 'Metrics for Prometheus', tags: ['health'], response } },
    async (_request, reply) => {
      const text = await metrics.metrics();
      return await reply.type(metrics.contentType).send(text);
    },
  );
}

/** Far less than the time between two scrapes, and more than the duration of one. */
const SCRAPE_MS = 1_000;

/** Reads once per scrape: all calls within a second share one result. */
export function oncePerScrape<Found>(read: () => Promise<Found>): () => Promise<Found> {
  let current: { at: number; found: Promise<Found> } | undefined;
  return () => {
    const now = performance.now();
    if (current === undefined || now - current.at > SCRAPE_MS) current = { at: now, found: read() };
    return current.found;
  };
}
