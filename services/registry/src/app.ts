import { access } from 'node:fs/promises';
import { createHttpApp, type HttpApp, healthRoutes } from '@lorasmith/service-kit';
import type { FastifyBaseLogger } from 'fastify';
import { type AdapterRoutesOptions, adapterRoutes } from './adapters/adapter-routes.js';

export interface AppDependencies extends AdapterRoutesOptions {
  logger: FastifyBaseLogger;
  /** Base models. */
  modelsDir: string;
}

/** The registry's HTTP application. It neither listens nor reads the environment. */
export async function buildApp({ logger, modelsDir, ...routes }: AppDependencies): Promise<HttpApp> {
  const app = createHttpApp({ logger });
  const checks = { adapters: () => routes.adapters.list(), models: () => access(modelsDir) };
  await app.register(healthRoutes, { checks });
  await app.register(adapterRoutes, routes);
  return app;
}
