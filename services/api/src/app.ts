import { datasetNotFound } from '@lorasmith/artifacts';
import type { ModelSource, PullStore } from '@lorasmith/base-models';
import type { ChildProgram } from '@lorasmith/child-processes';
import type { ExampleStore } from '@lorasmith/planning';
import type { GenerationClient, JobStore } from '@lorasmith/queue';
import {
  createHttpApp,
  type HttpApp,
  healthRoutes,
  metricsRoute,
  observeHttp,
  type ReadyCheck,
  type Registry,
  type Tracing,
} from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';
import type { Access } from './access/access.js';
import { createByteQuota } from './access/byte-quota.js';
import { createConcurrencyLimit } from './access/concurrency-limit.js';
import { guardRequests } from './access/guard-requests.js';
import { keyRoutes } from './access/key-routes.js';
import { adapterRoutes } from './adapters/adapter-routes.js';
import type { RegistryAddress } from './adapters/registry-address.js';
import { createRegistryClient } from './adapters/registry-client.js';
import { transferRoutes } from './adapters/transfer-routes.js';
import { BoundedReader } from './datasets/bounded-reader.js';
import { createDatasetChanges } from './datasets/change-datasets.js';
import { createDatasetCatalog } from './datasets/dataset-catalog.js';
import type { DatasetLimits } from './datasets/dataset-checker.js';
import { datasetRoutes } from './datasets/dataset-routes.js';
import type { RowChecks } from './datasets/row-checks.js';
import { createRowViews } from './datasets/row-views.js';
import { createTokenPreparations } from './datasets/token-preparations.js';
import { eventRoutes } from './events/event-routes.js';
import { createAdapterReservation } from './jobs/adapter-reservation.js';
import { checkpointRoutes } from './jobs/checkpoint-routes.js';
import { createJobContinuation } from './jobs/continue-job.js';
import { jobIdOf, jobNotFound, jobRoutes } from './jobs/job-routes.js';
import type { Preflight } from './jobs/preflight.js';
import { createJobSubmission } from './jobs/submit-job.js';
import { machineRoutes } from './machines/machine-routes.js';
import { modelRoutes } from './models/model-routes.js';
import { pullRoutes } from './models/pull-routes.js';
import { fileNotFound } from './openai/files/openai-file.js';
import { ownerOfFile } from './openai/files/owner-of-file.js';
import { createResultFiles } from './openai/files/result-files.js';
import { createModelDirectory } from './openai/models/model-directory.js';
import { answerUnrouted, openaiRoutes } from './openai/openai-routes.js';
import type { GenerationLimits } from './openai/text/generation-request.js';
import { registerOpenapi } from './openapi/openapi-plugin.js';
import { servePage } from './page/page-plugin.js';
import type { Site } from './page/read-site.js';
import { addPublicPath, withoutPublicPath } from './public-path.js';
import { advanceSweep } from './sweeps/advance-sweeps.js';
import { createSweepSubmission } from './sweeps/submit-sweep.js';
import { sweepIdOf, sweepNotFound, sweepRoutes } from './sweeps/sweep-routes.js';
import type { WebhookConfig } from './webhooks/webhook-config.js';
import { webhookRoutes } from './webhooks/webhook-routes.js';

export interface AppDependencies {
  logger: FastifyBaseLogger;
  metrics: Registry;
  tracing: Tracing;
  access: Access;
  jobs: JobStore;
  datasets: BundleStore;
  adapters: BundleStore;
  /** Tokenized datasets. */
  examples: ExampleStore;
  preflight: Preflight;
  baseModels: ModelSource;
  pulls: PullStore;
  registry: RegistryAddress;
  datasetLimits: DatasetLimits;
  /** The program that reads Parquet and zstd files. */
  fileReader: ChildProgram;
  /** The threads that check uploaded rows. */
  rowChecks: Pick<RowChecks, 'check'>;
  /** Time limit for a request to arrive, including uploads. */
  requestTimeoutMs: number;
  /** The path under which a proxy serves the api, as `/lora`; empty: none. */
  publicPath: string;
  /** Heartbeat interval of event streams. */
  heartbeatMs: number;
  /** A request is ended if nothing of its body arrives for this time. */
  uploadStallMs: number;
  /** A download is ended if its client reads no bytes for this time. */
  downloadStallMs: number;
  /** Requests for text, to the workers. */
  generation: GenerationClient;
  /** Bounds of requests for text. */
  generationLimits: GenerationLimits & { waitMs: number; queueMs: number };
  /** How webhooks are sent. */
  webhooks: WebhookConfig;
  /** The memory of the largest machine that would be started if a job needed it, in bytes; null: none is. */
  startedMemory: number | null;
  /** The data folder, which the registry may share. */
  dataDir: string;
  /** The web page; null: it is not built. */
  site: Site | null;
  /** The checks of `/ready`. */
  readyChecks: Readonly<Record<string, ReadyCheck>>;
}

/** A job request has some hundred bytes; a list of target modules can add more. */
const JSON_BODY_LIMIT_BYTES = 256 * 1024;
/** Limits, for docs/limits.md. */
export const httpLimits = {
  jsonBody: { value: JSON_BODY_LIMIT_BYTES, unit: 'bytes', beyond: '413 `body_too_large`' },
};

/** The public HTTP application. It neither listens nor reads the environment. */
export async function buildApp(dependencies: AppDependencies): Promise<HttpApp> {
  const {
    logger,
    metrics,
    tracing,
    access,
    jobs,
    datasets,
    adapters,
    preflight,
    baseModels,
    registry: address,
    datasetLimits,
    publicPath,
  } = dependencies;
  const app = createHttpApp({
    logger,
    bodyLimitBytes: JSON_BODY_LIMIT_BYTES,
    requestTimeoutMs: dependencies.requestTimeoutMs,
    bodyStallMs: dependencies.uploadStallMs,
    rewritePath: (url) => withoutPublicPath(url, publicPath),
    answerUnrouted,
  });
  addPublicPath(app, publicPath);
  observeHttp(app, metrics);
  tracing.traceRequests(app);
  const registry = createRegistryClient(address);
  const catalog = createDatasetCatalog({
    store: datasets,
    limits: datasetLimits,
    reader: new BoundedReader(dependencies.fileReader),
    checks: dependencies.rowChecks,
  });
  const { authenticator, reservations } = access;
  const datasetQuota = createByteQuota({ what: 'datasets', reservations, stored: (owner) => catalog.stored(owner) });
  const adapterQuota = createByteQuota({
    what: 'adapters',
    reservations,
    stored: async (owner) => {
      // In this order, a job that ends in between is counted twice instead of not at all.
      const reserved = await jobs.adapterBytes.reserved(owner);
      const stored = await registry.storedBytes(owner);
      const { things } = stored;
      return { own: reserved.own + stored.own, total: reserved.total + stored.total, things };
    },
  });
  const adapterReservation = createAdapterReservation(adapterQuota);
  const { examples } = dependencies;
  const preparations = createTokenPreparations({ catalog, baseModels, preflight, examples, log: logger });
  app.addHook('onClose', () => preparations.close());
  const submission = createJobSubmission({
    startedMemory: dependencies.startedMemory,
    jobs,
    catalog,
    adapters,
    baseModels,
    preflight,
    preparations,
    adapterReservation,
    tracing,
    webhooks: dependencies.webhooks,
  });
  const continuation = createJobContinuation({ jobs, catalog, adapterReservation });

  guardRequests(app, {
    ...access,
    owned: [
      { path: '/datasets/:id', ownerOf: (id) => catalog.ownerOf(id), notFound: datasetNotFound },
      { path: '/jobs/:id', ownerOf: (id) => jobs.ownerOf(jobIdOf(id)), notFound: jobNotFound },
      { path: '/sweeps/:id', ownerOf: (id) => jobs.sweeps.ownerOf(sweepIdOf(id)), notFound: sweepNotFound },
      { path: '/v1/files/:id', ownerOf: (id) => ownerOfFile(id, { catalog, jobs }), notFound: fileNotFound },
      { path: '/v1/fine_tuning/jobs/:id', ownerOf: (id) => jobs.ownerOf(jobIdOf(id)), notFound: jobNotFound },
    ],
  });

  await registerOpenapi(app, publicPath);
  await app.register(servePage, { site: dependencies.site });
  await app.register(healthRoutes, { checks: dependencies.readyChecks });
  await app.register(metricsRoute, { metrics });
  const changes = createDatasetChanges({ catalog, jobs, examples, quota: datasetQuota });
  const views = createRowViews({ catalog, baseModels, preflight, preparations });
  await app.register(datasetRoutes, { catalog, changes, preparations, views, maxBytes: datasetLimits.maxBytes });
  await app.register(jobRoutes, { jobs, submission, continuation });
  await app.register(sweepRoutes, {
    sweeps: jobs.sweeps,
    submission: createSweepSubmission({
      sweeps: jobs.sweeps,
      submission,
      adapterReservation,
      tracing,
      webhooks: dependencies.webhooks,
    }),
    advance: (id) => advanceSweep({ jobs, adapters, registry }, id),
  });
  await app.register(checkpointRoutes, { jobs, continuation });
  await app.register(eventRoutes, { jobs, authenticator, heartbeatMs: dependencies.heartbeatMs });
  const forwarding = { address, tracing };
  await app.register(adapterRoutes, { ...forwarding, adapters, jobs });
  const transfers = createConcurrencyLimit('downloads and imports');
  await app.register(transferRoutes, {
    ...forwarding,
    registry,
    quota: adapterQuota,
    transfers,
    stallMs: dependencies.downloadStallMs,
    dataDir: dependencies.dataDir,
  });
  const directory = createModelDirectory({ adapters, jobs, baseModels, registry });
  const stallMs = dependencies.downloadStallMs;
  await app.register(openaiRoutes, {
    text: {
      generation: dependencies.generation,
      directory,
      authenticator,
      limits: dependencies.generationLimits,
      waitMs: dependencies.generationLimits.waitMs,
      queueMs: dependencies.generationLimits.queueMs,
      stallMs,
    },
    files: {
      catalog,
      changes,
      results: createResultFiles({ jobs, adapters }),
      maxBytes: datasetLimits.maxBytes,
      transfers,
      stallMs,
    },
    fineTuning: { jobs, submission, continuation, directory, baseModels, catalog, adapters },
  });
  await app.register(modelRoutes, { baseModels });
  await app.register(pullRoutes, { pulls: dependencies.pulls, baseModels });
  await app.register(keyRoutes);
  await app.register(webhookRoutes, { webhooks: dependencies.webhooks });
  await app.register(machineRoutes, { machines: jobs.machines, queue: jobs.queue });
  return app;
}
