import { type AliasStore, datasetNotFound } from '@lorasmith/artifacts';
import type { ModelSource, PullStore } from '@lorasmith/base-models';
import type { ChildProgram } from '@lorasmith/child-processes';
import type { Owner } from '@lorasmith/contracts';
import type { ExampleStore } from '@lorasmith/planning';
import {
  comparisonNotFound,
  deliveryNotFound,
  type GenerationClient,
  type JobStore,
  type TrainingSessionStore,
} from '@lorasmith/queue';
import {
  answerError,
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
import { type Access, guardRequests, type OwnedThings } from './access/access.js';
import { createByteQuota, type StoredBytes } from './access/byte-quota.js';
import { ConcurrencyLimit } from './access/concurrency-limit.js';
import type { HubTokens } from './access/hub-tokens.js';
import { adapterLimits, createAdapterReservation } from './access/limits.js';
import { adapterRoutes } from './adapters/adapter-routes.js';
import { createRegistryClient, type RegistryAddress, type RegistryClient } from './adapters/registry-client.js';
import { transferRoutes } from './adapters/transfer-routes.js';
import { AliasDeliveries } from './aliases/alias-deliveries.js';
import { AliasMoves } from './aliases/alias-moves.js';
import { aliasRoutes } from './aliases/alias-routes.js';
import { HeldOutLoss } from './aliases/held-out-loss.js';
import { ComparisonRequests } from './comparisons/comparison-requests.js';
import { comparisonIdOf, comparisonRoutes } from './comparisons/comparison-routes.js';
import { BoundedReader } from './datasets/bounded-reader.js';
import { createDatasetChanges, DatasetCatalog } from './datasets/dataset-catalog.js';
import type { DatasetLimits } from './datasets/dataset-checker.js';
import { createRowViews, datasetRoutes } from './datasets/dataset-routes.js';
import type { RowChecks } from './datasets/row-checks.js';
import { TokenPreparations } from './datasets/token-preparations.js';
import type { DeliveryKinds } from './deliveries/delivery-kind.js';
import { DeliveryRequests } from './deliveries/delivery-requests.js';
import { deliveryIdOf, deliveryRoutes } from './deliveries/delivery-routes.js';
import { hubTokenRoutes } from './deliveries/hub-token-routes.js';
import type { Judges } from './grading/judges.js';
import { openaiImportRoutes } from './imports/openai-import-routes.js';
import { JobContinuation } from './jobs/continue-job.js';
import { eventRoutes } from './jobs/event-routes.js';
import { checkpointRoutes, jobIdOf, jobNotFound, jobRoutes } from './jobs/job-routes.js';
import type { Preflight } from './jobs/preflight.js';
import { JobSubmission } from './jobs/submit-job.js';
import type { JudgeClient } from './judging/judge-client.js';
import { modelRoutes } from './model-routes.js';
import type { GenerationLimits } from './openai/generation-request.js';
import { ModelDirectory } from './openai/model-directory.js';
import { createResultFiles, fileNotFound, ownerOfFile } from './openai/openai-files.js';
import { answerOpenaiError, OPENAI_PREFIX, openaiRoutes } from './openai/openai-routes.js';
import { registerOpenapi } from './openapi/openapi-plugin.js';
import { type Site, servePage } from './page-plugin.js';
import { serviceRoutes } from './service-routes.js';
import { advanceSweep } from './sweeps/advance-sweeps.js';
import { SweepSubmission } from './sweeps/submit-sweep.js';
import { sweepIdOf, sweepNotFound, sweepRoutes } from './sweeps/sweep-routes.js';
import { OwnSessions } from './tinker/own-sessions.js';
import { answerTinkerError } from './tinker/tinker-errors.js';
import { TINKER_PREFIX, tinkerRoutes } from './tinker/tinker-routes.js';
import type { WebhookConfig } from './webhooks/webhook-config.js';

export interface AppDependencies {
  logger: FastifyBaseLogger;
  metrics: Registry;
  tracing: Tracing;
  access: Access;
  jobs: JobStore;
  datasets: BundleStore;
  adapters: BundleStore;
  /** Names of adapters. */
  aliases: AliasStore;
  /** Tokenized datasets. */
  examples: ExampleStore;
  preflight: Pick<Preflight, 'report' | 'check' | 'hasTokens' | 'prepare' | 'viewRows'>;
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
  /** The models that clients train, to the workers. */
  trainingSessions: TrainingSessionStore;
  snapshots: BundleStore;
  /** Bounds of requests for text. */
  generationLimits: GenerationLimits & { waitMs: number; queueMs: number };
  /** The ways in which adapters are delivered. */
  deliveryKinds: DeliveryKinds;
  /** The tokens with which keys deliver to the Hugging Face hub. */
  hubTokens: HubTokens;
  /** The settings of webhooks. */
  webhooks: WebhookConfig;
  /** The models that score answers. */
  judges: Pick<Judges, 'check'>;
  /** The models that judge comparisons. */
  judgeClient: Pick<JudgeClient, 'check'>;
  /** The addresses that an import from OpenAI may name. */
  importUrls: readonly string[];
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
  const { logger, metrics, publicPath, requestTimeoutMs, uploadStallMs } = dependencies;
  const app = createHttpApp({
    logger,
    bodyLimitBytes: JSON_BODY_LIMIT_BYTES,
    requestTimeoutMs,
    bodyStallMs: uploadStallMs,
    rewritePath: (url) => withoutPublicPath(url, publicPath),
    answerUnrouted,
  });
  addPublicPath(app, publicPath);
  observeHttp(app, metrics);
  dependencies.tracing.traceRequests(app);
  const parts = createParts(dependencies);
  app.addHook('onClose', () => parts.preparations.close());
  guardRequests(app, { ...dependencies.access, owned: ownedThings(dependencies, parts) });

  await registerOpenapi(app, publicPath);
  await app.register(servePage, { site: dependencies.site });
  await app.register(healthRoutes, { checks: dependencies.readyChecks });
  await app.register(metricsRoute, { metrics });
  await registerTrainingRoutes(app, dependencies, parts);
  await registerAdapterRoutes(app, dependencies, parts);
  const { baseModels, pulls } = dependencies;
  await app.register(modelRoutes, { baseModels, pulls });
  await app.register(deliveryRoutes, { store: dependencies.jobs.deliveries, requests: parts.deliveries });
  await app.register(hubTokenRoutes, { tokens: dependencies.hubTokens });
  await app.register(comparisonRoutes, { store: dependencies.jobs.comparisons, requests: parts.comparisonRequests });
  const { machines, queue } = dependencies.jobs;
  await registerTinkerRoutes(app, dependencies, parts);
  await app.register(serviceRoutes, { machines, queue, webhooks: dependencies.webhooks });
  return app;
}

type Parts = ReturnType<typeof createParts>;

/** The parts that several routes use, each made once. */
function createParts(dependencies: AppDependencies) {
  const { jobs, adapters, aliases, baseModels, preflight, examples, tracing, webhooks, judges, startedMemory } =
    dependencies;
  const { reservations } = dependencies.access;
  const registry = createRegistryClient(dependencies.registry);
  const catalog = new DatasetCatalog({
    store: dependencies.datasets,
    limits: dependencies.datasetLimits,
    reader: new BoundedReader(dependencies.fileReader),
    checks: dependencies.rowChecks,
  });
  const datasetQuota = createByteQuota({ what: 'datasets', reservations, stored: (owner) => catalog.stored(owner) });
  const adapterQuota = createByteQuota({
    what: 'adapters',
    reservations,
    stored: (owner) => adapterBytes(owner, { jobs, registry }),
  });
  const adapterReservation = createAdapterReservation(adapterQuota);
  const preparations = new TokenPreparations({
    catalog,
    baseModels,
    preflight,
    examples,
    log: dependencies.logger,
  });
  const deliveries = new DeliveryRequests({ store: jobs.deliveries, adapters, kinds: dependencies.deliveryKinds });
  const submission = new JobSubmission({
    jobs,
    catalog,
    adapters,
    aliases,
    baseModels,
    preflight,
    preparations,
    adapterReservation,
    tracing,
    webhooks,
    judges,
    deliveries,
    startedMemory,
  });
  const views = createRowViews({ catalog, baseModels, preflight, preparations });
  const { generation, generationLimits, judgeClient } = dependencies;
  const directory = new ModelDirectory({ adapters, jobs, aliases, baseModels, registry });
  const losses = new HeldOutLoss({ catalog, views, generation, waitMs: generationLimits.waitMs });
  return {
    registry,
    deliveries,
    catalog,
    adapterQuota,
    preparations,
    submission,
    sweepSubmission: new SweepSubmission({
      sweeps: jobs.sweeps,
      submission,
      adapterReservation,
      tracing,
      webhooks,
      deliveries,
    }),
    continuation: new JobContinuation({ jobs, catalog, adapterReservation }),
    changes: createDatasetChanges({ catalog, jobs, examples, quota: datasetQuota }),
    views,
    directory,
    aliasDeliveries: new AliasDeliveries({
      aliases,
      requests: deliveries,
      store: jobs.deliveries,
      log: dependencies.logger,
    }),
    comparisonRequests: new ComparisonRequests({
      ...{ store: jobs.comparisons, catalog, models: directory, adapters, baseModels },
      ...{ judges: judgeClient, limits: generationLimits },
    }),
    aliasMoves: new AliasMoves({ aliases, adapters, baseModels, jobs, losses }),
    comparisons: new ConcurrencyLimit('comparisons of adapters'),
    /** The limit of downloads and imports. */
    transfers: new ConcurrencyLimit('downloads and imports'),
  };
}

/** The bytes of an owner's adapters and of all adapters, with those that unfinished jobs have reserved. */
async function adapterBytes(
  owner: Owner,
  { jobs, registry }: { jobs: JobStore; registry: RegistryClient },
): Promise<StoredBytes> {
  // In this order, a job that ends in between is counted twice instead of not at all.
  const reserved = await jobs.adapterBytes.reserved(owner);
  const stored = await registry.storedBytes(owner);
  return { own: reserved.own + stored.own, total: reserved.total + stored.total, things: stored.things };
}

function ownedThings({ jobs }: AppDependencies, { catalog }: Parts): OwnedThings[] {
  return [
    { path: '/datasets/:id', ownerOf: (id) => catalog.ownerOf(id), notFound: datasetNotFound },
    { path: '/jobs/:id', ownerOf: (id) => jobs.ownerOf(jobIdOf(id)), notFound: jobNotFound },
    { path: '/sweeps/:id', ownerOf: (id) => jobs.sweeps.ownerOf(sweepIdOf(id)), notFound: sweepNotFound },
    { path: '/deliveries/:id', ownerOf: (id) => jobs.deliveries.ownerOf(deliveryIdOf(id)), notFound: deliveryNotFound },
    {
      path: '/comparisons/:id',
      ownerOf: (id) => jobs.comparisons.ownerOf(comparisonIdOf(id)),
      notFound: comparisonNotFound,
    },
    { path: '/v1/files/:id', ownerOf: (id) => ownerOfFile(id, { catalog, jobs }), notFound: fileNotFound },
    { path: '/v1/fine_tuning/jobs/:id', ownerOf: (id) => jobs.ownerOf(jobIdOf(id)), notFound: jobNotFound },
  ];
}

/** Datasets, jobs and sweeps. */
async function registerTrainingRoutes(
  app: HttpApp,
  { jobs, adapters, aliases, access, heartbeatMs, importUrls: allowedUrls, datasetLimits }: AppDependencies,
  { registry, catalog, preparations, submission, sweepSubmission, continuation, changes, views, transfers }: Parts,
): Promise<void> {
  await app.register(datasetRoutes, { catalog, changes, preparations, views, maxBytes: datasetLimits.maxBytes });
  await app.register(jobRoutes, { jobs, submission, continuation });
  await app.register(sweepRoutes, {
    sweeps: jobs.sweeps,
    submission: sweepSubmission,
    advance: (id) => advanceSweep({ jobs, adapters, aliases, registry }, id),
  });
  await app.register(checkpointRoutes, { jobs, continuation });
  const { authenticator } = access;
  await app.register(eventRoutes, { jobs, authenticator, heartbeatMs });
  await app.register(openaiImportRoutes, { authenticator, transfers, allowedUrls, heartbeatMs });
}

/** Adapters, and the calls of the OpenAI API. */
async function registerAdapterRoutes(app: HttpApp, dependencies: AppDependencies, parts: Parts): Promise<void> {
  const { registry: address, tracing, adapters, aliases, jobs, baseModels, dataDir } = dependencies;
  const { registry, adapterQuota: quota, transfers, catalog, changes, submission, continuation, directory } = parts;
  const { generation, generationLimits: limits, access, datasetLimits, downloadStallMs: stallMs } = dependencies;
  await app.register(adapterRoutes, { address, tracing, adapters, aliases, jobs });
  await app.register(transferRoutes, { address, tracing, registry, aliases, quota, transfers, stallMs, dataDir });
  const { aliasMoves: moves, aliasDeliveries: deliveries, comparisons } = parts;
  await app.register(aliasRoutes, { aliases, moves, deliveries, comparisons });
  await app.register(openaiRoutes, {
    text: {
      generation,
      directory,
      authenticator: access.authenticator,
      limits,
      waitMs: limits.waitMs,
      queueMs: limits.queueMs,
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
}

/** The calls of the tinker SDK. */
async function registerTinkerRoutes(app: HttpApp, dependencies: AppDependencies, parts: Parts): Promise<void> {
  const {
    trainingSessions: store,
    snapshots,
    baseModels,
    generation,
    generationLimits: limits,
    jobs,
    aliases,
    adapters,
  } = dependencies;
  await app.register(tinkerRoutes, {
    ...{ store, snapshots, adapters, generation, limits, waitMs: limits.waitMs },
    own: new OwnSessions({ store, baseModels }),
    directory: parts.directory,
    registry: parts.registry,
    users: { jobs, aliases },
    checkSpace: async ({ caller, limits: ofCaller }) => {
      const quota = parts.adapterQuota.begin(caller.owner, adapterLimits(ofCaller));
      try {
        await quota.reserve(0);
        quota.checkMore(1);
      } finally {
        await quota.end();
      }
    },
  });
}

const ERROR_ANSWERS = [
  [`${OPENAI_PREFIX}/`, answerOpenaiError],
  [`${TINKER_PREFIX}/`, answerTinkerError],
] as const;

/** Answers an error that occurred before a route was found, in the form of those below its path. */
const answerUnrouted: typeof answerError = (error, request, reply) => {
  const [, answer = answerError] = ERROR_ANSWERS.find(([prefix]) => request.url.startsWith(prefix)) ?? [];
  answer(error, request, reply);
};

/**
 * The path of a request within the service. A proxy may remove its path before it forwards, or leave it.
 *
 * @param publicPath - as `/lora`; empty: none
 */
export function withoutPublicPath(url: string, publicPath: string): string {
  if (publicPath === '' || !url.startsWith(publicPath)) return url;
  const rest = url.slice(publicPath.length);
  if (rest === '' || rest.startsWith('?')) return `/${rest}`;
  return rest.startsWith('/') ? rest : url;
}

/** Adds the path to every address that an answer names, and sends the page's visitors to it with its last slash. */
function addPublicPath(app: HttpApp, publicPath: string): void {
  if (publicPath === '') return;
  // The files of the page are relative to its address, which needs the slash for that.
  app.addHook('onRequest', async ({ originalUrl }, reply) => {
    if (originalUrl === publicPath) return reply.redirect(`${publicPath}/`);
  });
  app.addHook('onSend', async (_request, reply) => {
    const location = reply.getHeader('location');
    if (typeof location !== 'string' || !/^\/(?!\/)/.test(location) || location.startsWith(`${publicPath}/`)) return;
    reply.header('location', `${publicPath}${location}`);
  });
}
