import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { createJobStore } from '@lorasmith/job-store';
import { openExampleStore } from '@lorasmith/planning';
import { connectRedis, createLogger, readConfigOrExit, redisReady, shutDownInOrder } from '@lorasmith/service-kit';
import { openBundleStore } from '@lorasmith/storage';
import { checkRegistry } from './adapters/check-registry.js';
import { buildApp } from './app.js';
import { checkListenAddress } from './check-listen-address.js';
import { createPreflight } from './jobs/preflight.js';
import { API_SETTINGS } from './settings.js';

/** Stagings in which nothing was written for this long are of a process that died. */
const STALE_STAGING_MS = 24 * 3_600_000;
/** The api starts without Redis and says so; this only spares the first callers a 503. */
const REDIS_WAIT_MS = 2_000;

const config = readConfigOrExit(API_SETTINGS, process.env, ({ http }) => checkListenAddress(http));
const logger = createLogger({ service: 'api', level: config.logLevel });

const datasets = await openBundleStore({ root: config.dataDir, kind: 'datasets' });
const adapters = await openBundleStore({ root: config.dataDir, kind: 'adapters' });
const swept = await datasets.sweepStaging(STALE_STAGING_MS);
if (swept > 0) logger.info({ swept }, 'removed half-made uploads of an earlier process');

const redis = connectRedis({ url: config.redis.url, whenAway: 'fail-fast', name: 'lorasmith-api', logger });
await redisReady(redis, REDIS_WAIT_MS);
const jobs = createJobStore({
  redis,
  prefix: config.redis.prefix,
  onQueueError: (job, error) => logger.error({ job, err: error }, 'a job could not be queued yet; a worker will do it'),
});
const tokens = { dataDir: config.dataDir, maxBytes: config.tokenCacheBytes };
const examples = await openExampleStore(tokens);
await examples.sweep((dataset) => datasets.has(dataset));
const preflight = createPreflight({
  threadFile: fileURLToPath(new URL('./jobs/preflight-thread.js', import.meta.url)),
  ...config.preflight,
  tokens,
});

const app = await buildApp({
  logger,
  jobs,
  datasets,
  adapters,
  examples,
  preflight,
  modelsDir: config.modelsDir,
  registryUrl: config.registryUrl,
  datasetLimits: config.datasets,
  requestTimeoutMs: config.http.requestTimeoutMs,
  heartbeatMs: config.http.heartbeatMs,
  readyChecks: {
    redis: () => redis.ping(),
    registry: () => checkRegistry(config.registryUrl),
    data: () => access(config.dataDir),
  },
});

shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    await app.close();
    await preflight.close();
    await jobs.close();
    redis.disconnect();
  },
});
await app.listen({ host: config.http.host, port: config.http.port });
