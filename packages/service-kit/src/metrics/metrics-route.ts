import { type TSchema, Type } from 'typebox';
import type { HttpApp } from '../http-app.js';
import type { Registry } from './create-metrics.js';

export interface MetricsRouteOptions {
  metrics: Registry;
}

const response: Record<number, TSchema | object> = {
  200: {
    description: 'The text format of Prometheus.',
    content: { 'text/plain': { schema: Type.String() } },
  },
};

/** `GET /metrics`, for Prometheus. */
export async function metricsRoute(app: HttpApp, { metrics }: MetricsRouteOptions): Promise<void> {
  app.get(
    '/metrics',
    { schema: { operationId: 'getMetrics', summary: 'Figures for Prometheus', tags: ['health'], response } },
    async (_request, reply) => {
      const text = await metrics.metrics();
      return await reply.type(metrics.contentType).send(text);
    },
  );
}
