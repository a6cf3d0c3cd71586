// The puller: a process of its own, because it alone writes to the models folder, connects to the hub, and has its token.
import {
  bucketDestination,
  createPullStore,
  MODELS_KIND,
  modelsFolderDestination,
  startPuller,
} from '@lorasmith/base-models';
import {
  checkFolders,
  checkRedisSettings,
  connectRedis,
  createHttpApp,
  createLogger,
  exitOnWrongConfiguration,
  healthRoutes,
  listen,
  readConfigOrExit,
  redisReady,
  s3StoreOf,
  shutDownInOrder,
} from '@lorasmith/service-kit';
import { openStores } from '@lorasmith/storage';
import { PULLER_SETTINGS } from './puller-settings.js';

/** A supervisor uses one. */
const HEALTH_CONNECTIONS = 10;
/** It also starts without Redis. This wait only avoids a warning. */
const REDIS_WAIT_MS = 2_000;

const config = readConfigOrExit(PULLER_SETTINGS, process.env, ({ store, redis }) => {
  checkRedisSettings(redis);
  s3StoreOf(store);
});
const logger = createLogger({ service: 'puller', level: config.logLevel });
const { dataDir, modelsDir, hub } = config;
const s3 = s3StoreOf(config.store);
// Without S3 it needs the models folder alone, and says what is wrong with that when it first writes there.
if (s3 !== null) await checkFolders({ dataDir, modelsDir: null, logger }).catch(exitOnWrongConfiguration);
const stores = s3 === null ? null : await openStores({ dataDir, s3 });
const destination =
  stores?.s3 == null
    ? modelsFolderDestination(modelsDir)
    : bucketDestination(await stores.s3.open(MODELS_KIND), dataDir);

const redis = connectRedis({ ...config.redis, whenUnavailable: 'fail-fast', name: 'lorasmith-puller', logger });
await redisReady(redis, REDIS_WAIT_MS);
const puller = startPuller({
  pulls: createPullStore({ redis, prefix: config.redis.prefix }),
  destination,
  hub,
  limits: config.limits,
  log: logger,
});
const health = createHttpApp({ logger });
await health.register(healthRoutes, {
  checks: {
    puller: async () => {
      const reason = puller.hindrance();
      if (reason !== null) throw new Error(reason);
    },
  },
});
shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    await health.close();
    await puller.close();
    redis.disconnect();
    stores?.close();
  },
});
if (config.health.port !== 0) {
  const address = {
    host: '127.0.0.1',
    port: config.health.port,
    maxConnections: HEALTH_CONNECTIONS,
    hostVariable: 'PULLER_HEALTH_PORT',
    portVariable: 'PULLER_HEALTH_PORT',
  };
  await listen(health, address).catch(exitOnWrongConfiguration);
}
const { endpoint, offline, token } = hub;
logger.info({ hub: endpoint, offline, token: token === null ? 'none' : 'set' }, 'the puller is ready');
