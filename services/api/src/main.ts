import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ALIASES_KIND, AliasStore } from '@lorasmith/artifacts';
import { createPullStore, openModelSource } from '@lorasmith/base-models';
import { WEIGHT_DIGESTS_FOLDER, WeightDigests } from '@lorasmith/model-folder';
import { openExampleStore } from '@lorasmith/planning';
import { createGenerationClient, createJobStore, onRedis, TrainingSessionStore } from '@lorasmith/queue';
import {
  checkFolders,
  checkRedisSettings,
  connectRedis,
  createLogger,
  exitOnWrongConfiguration,
  foldersReady,
  listen,
  openTracing,
  readConfigOrExit,
  redisReady,
  s3StoreOf,
  shutDownInOrder,
  watchRedisDurability,
} from '@lorasmith/service-kit';
import { openStores } from '@lorasmith/storage';
import { createAccess } from './access/access.js';
import { checkListenAddress, withoutKeysAt } from './access/authenticate.js';
import { HubTokens } from './access/hub-tokens.js';
import { KeyStore } from './access/key-store.js';
import { createRegistryClient, registryAt } from './adapters/registry-client.js';
import { startFollowing } from './aliases/alias-deliveries.js';
import { createApiMetrics } from './api-metrics.js';
import { buildApp } from './app.js';
import { type AppDependencies, createAppParts } from './app-parts.js';
import { startComparisons } from './comparisons/comparison-runner.js';
import { RowChecks } from './datasets/row-checks.js';
import { registryFiles } from './deliveries/adapter-source.js';
import { checkDeliveryConfig } from './deliveries/delivery-kind.js';
import { deliveryKinds } from './deliveries/delivery-kinds.js';
import { startDeliveries } from './deliveries/delivery-runner.js';
import { startGradingSender } from './grading/grading-sender.js';
import { Judges } from './grading/judges.js';
import { webhookClient } from './grading/webhook-client.js';
import { Preflight } from './jobs/preflight.js';
import { PreflightThreads } from './jobs/preflight-threads.js';
import { JudgeClient } from './judging/judge-client.js';
import { ModelDirectory } from './openai/model-directory.js';
import { readSite, siteFolder } from './page-plugin.js';
import { API_SETTINGS } from './settings.js';
import { repairIndexes, startOrphanSweep } from './sweep-orphans.js';
import { startSweeps } from './sweeps/advance-sweeps.js';
import { startCheckpointExpiry } from './tinker/expired-checkpoints.js';
import { checkWebhookConfig } from './webhooks/webhook-config.js';
import { startWebhookSender } from './webhooks/webhook-sender.js';

/** A staged folder without a write for this long belongs to a process that died. */
const STALE_STAGING_MS = 24 * 3_600_000;
/** The api also starts without Redis. This wait only avoids a 503 for the first requests. */
const REDIS_WAIT_MS = 2_000;

const config = readConfigOrExit(API_SETTINGS, process.env, ({ store, redis, webhooks, deliveries }) => {
  checkWebhookConfig(webhooks);
  checkDeliveryConfig(deliveries, store);
  checkRedisSettings(redis);
  s3StoreOf(store);
});
const logger = createLogger({ service: 'api', level: config.logLevel });

const { dataDir, modelsDir } = config;
const s3 = s3StoreOf(config.store);
// With S3, base models come to this folder only when they are used.
const folders = { dataDir, modelsDir: s3 === null ? modelsDir : null };
await checkFolders({ ...folders, logger }).catch(exitOnWrongConfiguration);
const tracing = await openTracing({ endpoint: config.tracingEndpoint, service: 'api', logger });
const stores = await openStores({ dataDir, s3 });
const datasets = await stores.open('datasets');
const adapters = await stores.open('adapters');
const aliases = new AliasStore(await stores.openAnnotations(ALIASES_KIND));
// What was put back from a backup has no entry. A look at folders is fast; a bucket is copied with its index.
if (!stores.shared) await repairIndexes({ stores, log: logger });
const endSweeping = startOrphanSweep({ stores, aliases, log: logger });
const swept = await datasets.sweepStaging(STALE_STAGING_MS);
if (swept > 0) logger.info({ swept }, 'removed incomplete uploads of an earlier process');

const redis = connectRedis({ ...config.redis, whenUnavailable: 'fail-fast', name: 'lorasmith-api', logger });
let end: (reason: string, code: number) => void = (_reason, code) => process.exit(code);
watchRedisDurability({
  redis,
  logger,
  onEvicting(message) {
    process.stderr.write(`${message}\n`);
    end('Redis evicts keys', 78);
  },
});
await redisReady(redis, REDIS_WAIT_MS);
const keys = new KeyStore({ redis, prefix: config.redis.prefix });
await checkListenAddress(config.http, keys).catch(exitOnWrongConfiguration);
const jobs = createJobStore({
  redis,
  prefix: config.redis.prefix,
  onQueueError: (job, error) => logger.error({ job, err: error }, 'a job could not be queued; a worker will queue it'),
});
const generation = createGenerationClient({ redis, prefix: config.redis.prefix });
const trainingSessions = new TrainingSessionStore({ redis, prefix: config.redis.prefix });
const digests = new WeightDigests(path.join(dataDir, WEIGHT_DIGESTS_FOLDER));
const tokens = { dataDir, maxBytes: config.tokenCacheBytes };
const examples = await openExampleStore(tokens);
await examples.sweep((dataset) => datasets.has(dataset));
const { threads: largePlans, ...planning } = config.preflight;
const planners = new PreflightThreads(
  fileURLToPath(new URL('./jobs/preflight-thread.js', import.meta.url)),
  largePlans,
);
const preflight = new Preflight({ threads: planners, ...planning, tokens });
const rowChecks = new RowChecks(fileURLToPath(new URL('./datasets/check-thread.js', import.meta.url)));

const site = await readSite(siteFolder());
if (site === null) {
  logger.warn({ folder: siteFolder() }, 'the web page is not built, so / answers 404; npm run setup builds it');
}

const address = registryAt(config.registryUrl, config.serviceSecret, dataDir);
const registry = createRegistryClient(address);
const baseModels = await openModelSource({ modelsDir, stores, digests });
const models = new ModelDirectory({ adapters, jobs, aliases, baseModels, registry });
const judgeClient = new JudgeClient({ config: config.judges, models, generation, limits: config.generation });
const judges = new Judges(judgeClient);
const hubTokens = new HubTokens({ redis, prefix: config.redis.prefix, secretsKey: config.secretsKey });
const dependencies: AppDependencies = {
  logger,
  metrics: createApiMetrics({ jobs, generation, redis, dataDir, workerClasses: config.workerClasses }),
  tracing,
  access: createAccess({
    redis,
    prefix: config.redis.prefix,
    keys,
    withoutKeys: withoutKeysAt(config.http),
    limits: config.limits,
    uploadTimeoutMs: config.http.requestTimeoutMs,
  }),
  jobs,
  datasets,
  adapters,
  aliases,
  examples,
  preflight,
  baseModels,
  judges,
  judgeClient,
  pulls: createPullStore({ redis, prefix: config.redis.prefix }),
  registry: address,
  datasetLimits: config.datasets,
  fileReader: {
    file: fileURLToPath(new URL('./datasets/read-file-main.js', import.meta.url)),
    environment: process.env,
  },
  rowChecks,
  requestTimeoutMs: config.http.requestTimeoutMs,
  publicPath: config.http.publicPath,
  heartbeatMs: config.http.heartbeatMs,
  uploadStallMs: config.http.uploadStallMs,
  downloadStallMs: config.http.downloadStallMs,
  generation,
  trainingSessions,
  snapshots: await stores.open('snapshots'),
  generationLimits: config.generation,
  deliveryKinds: (names) =>
    deliveryKinds({ config: config.deliveries, source: registryFiles(address), hubTokens, names }),
  hubTokens,
  webhooks: config.webhooks,
  importUrls: config.importUrls,
  startedMemory: largestMemory(config.workerClasses.classes),
  dataDir,
  site,
  readyChecks: {
    redis: () => onRedis(() => redis.ping()),
    registry: () => registry.check(),
    ...foldersReady(folders),
    store: () => stores.check(),
  },
};
const parts = createAppParts(dependencies);
const app = await buildApp(dependencies, parts);

/** Null without classes. */
function largestMemory(classes: readonly { memory: number }[]): number | null {
  return classes.length === 0 ? null : Math.max(...classes.map(({ memory }) => memory));
}

const endExpiry = startCheckpointExpiry({
  store: trainingSessions,
  users: { jobs, aliases },
  registry,
  log: logger,
});
const endSweeps = startSweeps({ jobs, adapters, aliases, registry, log: logger });
const endWebhooks = startWebhookSender({ outbox: jobs.webhooks, config: config.webhooks, log: logger });
const endGradings = startGradingSender({
  gradings: jobs.gradings,
  clients: { webhook: webhookClient(config.webhooks), judge: judges },
  log: logger,
});
const endDeliveries = startDeliveries({
  store: jobs.deliveries,
  requests: parts.deliveries,
  adapters,
  kinds: parts.deliveryKinds,
  log: logger,
});
const endFollowing = startFollowing(parts.aliasDeliveries, logger);
const endComparisons = startComparisons({
  store: jobs.comparisons,
  datasets,
  generation,
  judges: judgeClient,
  log: logger,
});

end = shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    await app.close();
    await planners.close();
    await rowChecks.close();
    await Promise.all([endSweeps(), endExpiry()]);
    await Promise.all([endWebhooks(), endGradings(), endDeliveries(), endFollowing(), endComparisons()]);
    await jobs.close();
    generation.close();
    trainingSessions.close();
    redis.disconnect();
    await endSweeping();
    stores.close();
    await tracing.close();
  },
});
const { host, port } = config.http;
const { maxConnections } = config;
await listen(app, { host, port, maxConnections, hostVariable: 'API_HOST', portVariable: 'API_PORT' }).catch(
  exitOnWrongConfiguration,
);
// Not before: a process that ends for a wrong configuration has no threads.
planners.start();
rowChecks.start();
