import { access } from 'node:fs/promises';
import { createHttpApp, type HttpApp, healthRoutes } from '@lorasmith/service-kit';
import type { FastifyBaseLogger } from 'fastify';
import { type AdapterRoutesOptions, adapterRoutes } from './adapters/adapter-routes.js';
import { type ImportRoutesOptions, importRoutes } from './importing/import-routes.js';

export interface AppDependencies extends AdapterRoutesOptions, ImportRoutesOptions {
  logger: FastifyBaseLogger;
  /** Base models. */
  modelsDir: string;
}

const UPLOAD_TIMEOUT_MS = 3_600_000;

/** The registry's HTTP application. It neither listens nor reads the environment. */
export async function buildApp({ logger, modelsDir, ...routes }: AppDependencies): Promise<HttpApp> {
  // An adapter is uploaded through the api, which has a limit of its own for slow senders.
  const app = createHttpApp({ logger, requestTimeoutMs: UPLOAD_TIMEOUT_MS });
  const checks = { adapters: () => routes.adapters.list(), models: () => access(modelsDir) };
  await app.register(healthRoutes, { checks });
  await app.register(adapterRoutes, routes);
  await app.register(importRoutes, routes);
  return app;
}
