import type { JobStore } from '@lorasmith/job-store';
import type { ExampleStore } from '@lorasmith/planning';
import { createHttpApp, type HttpApp, healthRoutes, type ReadyCheck } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';
import { adapterRoutes } from './adapters/adapter-routes.js';
import { createDatasetCatalog } from './datasets/dataset-catalog.js';
import type { DatasetLimits } from './datasets/dataset-checker.js';
import { datasetRoutes } from './datasets/dataset-routes.js';
import { eventRoutes } from './jobs/event-routes.js';
import { jobRoutes } from './jobs/job-routes.js';
import type { Preflight } from './jobs/preflight.js';
import { createJobSubmission } from './jobs/submit-job.js';
import { modelRoutes } from './models/model-routes.js';
import { registerOpenapi } from './openapi/openapi-plugin.js';

export interface AppDependencies {
  logger: FastifyBaseLogger;
  jobs: JobStore;
  datasets: BundleStore;
  adapters: BundleStore;
  /** Datasets as tokens. */
  examples: ExampleStore;
  preflight: Preflight;
  /** Base models. */
  modelsDir: string;
  registryUrl: string;
  datasetLimits: DatasetLimits;
  /** Time for a request to arrive, an upload included. */
  requestTimeoutMs: number;
  /** Of event streams. */
  heartbeatMs: number;
  /** What `/ready` looks at. */
  readyChecks: Readonly<Record<string, ReadyCheck>>;
}

/** A job request is some hundred bytes; a list of target modules may make it more. */
const JSON_BODY_LIMIT_BYTES = 256 * 1024;

/** The public HTTP application. It neither listens nor reads the environment. */
export async function buildApp(dependencies: AppDependencies): Promise<HttpApp> {
  const { logger, jobs, datasets, adapters, preflight, modelsDir, registryUrl, datasetLimits } = dependencies;
  const app = createHttpApp({
    logger,
    bodyLimitBytes: JSON_BODY_LIMIT_BYTES,
    requestTimeoutMs: dependencies.requestTimeoutMs,
  });
  const catalog = createDatasetCatalog(datasets, datasetLimits);
  const submission = createJobSubmission({ jobs, catalog, adapters, modelsDir, preflight });

  await registerOpenapi(app);
  await app.register(healthRoutes, { checks: dependencies.readyChecks });
  await app.register(datasetRoutes, { catalog, jobs, examples: dependencies.examples, maxBytes: datasetLimits.maxBytes });
  await app.register(jobRoutes, { jobs, submission });
  await app.register(eventRoutes, { jobs, heartbeatMs: dependencies.heartbeatMs });
  await app.register(adapterRoutes, { registryUrl });
  await app.register(modelRoutes, { modelsDir });
  return app;
}
