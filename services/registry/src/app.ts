import {
  checkNotRebound,
  checkServiceRequest,
  createHttpApp,
  type HttpApp,
  healthRoutes,
  metricsRoute,
  observeHttp,
  type ReadyCheck,
  type Registry,
  type Tracing,
} from '@lorasmith/service-kit';
import type { FastifyBaseLogger } from 'fastify';
import type { AdapterLibrary } from './adapters/adapter-library.js';
import {
  type AdapterRoutesOptions,
  adapterRoutes,
  type ImportRoutesOptions,
  importRoutes,
} from './adapters/adapter-routes.js';
import { AdapterDownloads, type AdapterDownloadsOptions } from './downloads/adapter-downloads.js';
import type { MergedModels } from './merging/merged-models.js';
import { countDownloads, observeMergedModels } from './registry-metrics.js';

export interface AppDependencies
  extends Omit<AdapterRoutesOptions, 'downloads' | 'onDownload'>,
    AdapterDownloadsOptions,
    ImportRoutesOptions {
  library: AdapterLibrary;
  models: MergedModels;
  logger: FastifyBaseLogger;
  metrics: Registry;
  tracing: Tracing;
  /** The secret of the api; null: whoever reaches the port is answered. */
  secret: string | null;
  /** The checks of `/ready`. */
  readyChecks: Readonly<Record<string, ReadyCheck>>;
}

const UPLOAD_TIMEOUT_MS = 3_600_000;

/** Routes for supervisors and Prometheus, which know no secret. They name no adapter. */
const PUBLIC_ROUTES: readonly unknown[] = ['/live', '/ready', '/metrics'];

/** The registry's HTTP application. It neither listens nor reads the environment. */
export async function buildApp({
  logger,
  metrics,
  tracing,
  secret,
  readyChecks,
  ...routes
}: AppDependencies): Promise<HttpApp> {
  // Adapters are uploaded through the api, which has its own limit for slow senders.
  const app = createHttpApp({ logger, requestTimeoutMs: UPLOAD_TIMEOUT_MS });
  app.addHook('onRequest', async ({ headers, routeOptions: { url } }) => {
    if (PUBLIC_ROUTES.includes(url)) checkNotRebound(headers);
    else checkServiceRequest(headers, secret);
  });
  observeHttp(app, metrics);
  observeMergedModels(metrics, routes.models);
  tracing.traceRequests(app);
  const count = countDownloads(metrics);
  await app.register(healthRoutes, { checks: readyChecks });
  await app.register(metricsRoute, { metrics });
  await app.register(adapterRoutes, {
    ...routes,
    downloads: new AdapterDownloads(routes),
    onDownload(event, log) {
      count(event);
      log.info(event, 'download started');
    },
  });
  await app.register(importRoutes, routes);
  return app;
}
