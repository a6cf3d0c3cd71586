import type { Logger } from 'pino';
import { NO_TRACING, type Tracing } from './tracing.js';

export interface TracingOptions {
  /** Base address of an OTLP/HTTP collector; null: no tracing. */
  endpoint: string | null;
  service: string;
  logger: Logger;
}

/** Tracing with OpenTelemetry. Its packages are loaded only if there is a collector. */
export async function openTracing({ endpoint, ...options }: TracingOptions): Promise<Tracing> {
  if (endpoint === null) return NO_TRACING;
  const { openOtlpTracing } = await import('./otlp-tracing.js');
  return openOtlpTracing({ endpoint, ...options });
}
