import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { PRODUCT_VERSION } from '../version.js';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface MetricsOptions {
  /** Name of the service. */
  service: string;
}

/**
 * What a process tells Prometheus: its own memory, processor time, event loop and garbage collection, and whatever is
 * registered with it. Every label has few values; ids of jobs and adapters belong into the log.
 */
export function createMetrics({ service }: MetricsOptions): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'lorasmith_build_info',
    help: 'Always 1; its labels say what runs.',
    labelNames: ['service', 'version', 'node'],
    registers: [registry],
  }).set({ service, version: PRODUCT_VERSION, node: process.versions.node }, 1);
  return registry;
}
