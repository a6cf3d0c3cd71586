import { datasetNotFound } from '@lorasmith/artifacts';
import { comparisonNotFound, deliveryNotFound } from '@lorasmith/queue';
import {
  answerError,
  createHttpApp,
  type HttpApp,
  healthRoutes,
  metricsRoute,
  observeHttp,
} from '@lorasmith/service-kit';
import { guardRequests, type OwnedThings } from './access/access.js';
import { adapterLimits } from './access/limits.js';
import { adapterRoutes } from './adapters/adapter-routes.js';
import { transferRoutes } from './adapters/transfer-routes.js';
import { aliasRoutes } from './aliases/alias-routes.js';
import type { AppDependencies, AppParts } from './app-parts.js';
import { comparisonIdOf, comparisonRoutes } from './comparisons/comparison-routes.js';
import { datasetRoutes } from './datasets/dataset-routes.js';
import { deliveryIdOf, deliveryRoutes } from './deliveries/delivery-routes.js';
import { hubTokenRoutes } from './deliveries/hub-token-routes.js';
import { openaiImportRoutes } from './imports/openai-import-routes.js';
import { eventRoutes } from './jobs/event-routes.js';
import { checkpointRoutes, jobIdOf, jobNotFound, jobRoutes } from './jobs/job-routes.js';
import { modelRoutes } from './model-routes.js';
import { createResultFiles, fileNotFound, ownerOfFile } from './openai/openai-files.js';
import { answerOpenaiError, OPENAI_PREFIX, openaiRoutes } from './openai/openai-routes.js';
import { registerOpenapi } from './openapi/openapi-plugin.js';
import { servePage } from './page-plugin.js';
import { serviceRoutes } from './service-routes.js';
import { advanceSweep } from './sweeps/advance-sweeps.js';
import { sweepIdOf, sweepNotFound, sweepRoutes } from './sweeps/sweep-routes.js';
import { OwnSessions } from './tinker/own-sessions.js';
import { answerTinkerError } from './tinker/tinker-errors.js';
import { TINKER_PREFIX, tinkerRoutes } from './tinker/tinker-routes.js';

/** A job request has some hundred bytes; a list of target modules can add more. */
const JSON_BODY_LIMIT_BYTES = 256 * 1024;
/** Limits, for docs/limits.md. */
export const httpLimits = {
  jsonBody: { value: JSON_BODY_LIMIT_BYTES, unit: 'bytes', beyond: '413 `body_too_large`' },
};

/** The public HTTP application. It neither listens nor reads the environment. */
export async function buildApp(dependencies: AppDependencies, parts: AppParts): Promise<HttpApp> {
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

function ownedThings({ jobs }: AppDependencies, { catalog }: AppParts): OwnedThings[] {
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
  { registry, catalog, preparations, submission, sweepSubmission, continuation, changes, views, transfers }: AppParts,
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
async function registerAdapterRoutes(app: HttpApp, dependencies: AppDependencies, parts: AppParts): Promise<void> {
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
async function registerTinkerRoutes(app: HttpApp, dependencies: AppDependencies, parts: AppParts): Promise<void> {
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
