import { fileURLToPath } from 'node:url';
import { NO_GPU_EXIT_CODE } from '@lorasmith/engine-host';
import {
  checkFolders,
  checkRedisSettings,
  connectRedis,
  createLogger,
  createMetrics,
  exitOnWrongConfiguration,
  listen,
  observeFolders,
  observeRedis,
  openTracing,
  readConfigOrExit,
  s3StoreOf,
  shutDownInOrder,
  watchRedisDurability,
} from '@lorasmith/service-kit';
import { openStores } from '@lorasmith/storage';
import { chooseDevice, NoGpuError } from './device/choose-device.js';
import { WORKER_SETTINGS } from './settings.js';
import { startWorker } from './start-worker.js';
import { buildWorkerHealth } from './worker-health.js';

/** A supervisor and Prometheus use one or two. */
const HEALTH_CONNECTIONS = 100;
const config = readConfigOrExit(WORKER_SETTINGS, process.env, ({ store, redis }) => {
  checkRedisSettings(redis);
  s3StoreOf(store);
});
const s3 = s3StoreOf(config.store);
const logger = createLogger({ service: 'worker', level: config.logLevel });
// Until there is something to close in order. The first process of a container ignores a signal without a handler.
const endAtOnce = () => process.exit(0);
process.on('SIGTERM', endAtOnce);
process.on('disconnect', endAtOnce);
const { dataDir, modelsDir } = config;
const folders = { dataDir, modelsDir: s3 === null ? modelsDir : null };
await checkFolders({ ...folders, logger }).catch(exitOnWrongConfiguration);
const device = await chooseDevice({
  requested: config.device,
  environment: process.env,
  probeProgram: fileURLToPath(new URL('device/probe-gpu-main.js', import.meta.url)),
  log: logger,
}).catch((error: unknown) => {
  if (!(error instanceof NoGpuError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(error.exitCode);
});
const redis = connectRedis({ ...config.redis, whenUnavailable: 'wait', name: `worker:${config.workerName}`, logger });
let end: (reason: string, code: number) => void = (_reason, code) => process.exit(code);
watchRedisDurability({
  redis,
  logger,
  onEvicting(message) {
    process.stderr.write(`${message}\n`);
    end('Redis evicts keys', 78);
  },
});
const tracing = await openTracing({ endpoint: config.tracingEndpoint, service: 'worker', logger });
const metrics = createMetrics({ service: 'worker' });
observeFolders(metrics, { data: dataDir, models: modelsDir });
observeRedis(metrics, redis);
const stores = await openStores({ dataDir, s3 });
// Before the machine is measured, which takes a while: a port that is in use is reported at once.
let takesJobs = false;
const health =
  config.health.port === 0
    ? null
    : await buildWorkerHealth({ redis, folders, stores, log: logger, metrics, takesJobs: () => takesJobs });
if (health !== null) {
  const address = {
    ...config.health,
    maxConnections: HEALTH_CONNECTIONS,
    hostVariable: 'WORKER_HEALTH_HOST',
    portVariable: 'WORKER_HEALTH_PORT',
  };
  await listen(health, address).catch(exitOnWrongConfiguration);
}
const worker = await startWorker({
  redis,
  prefix: config.redis.prefix,
  dataDir,
  modelsDir,
  stores,
  tokenCacheBytes: config.tokenCacheBytes,
  workerName: config.workerName,
  trainerProgram: fileURLToPath(new URL('trainer/child-main.js', import.meta.url)),
  probeProgram: fileURLToPath(new URL('trainer/probe-main.js', import.meta.url)),
  device,
  environment: process.env,
  log: logger,
  metrics,
  tracing,
  jobLockMs: config.jobLockMs,
  jobTimeoutMs: config.jobTimeoutMs,
  trainerIdleMs: config.trainerIdleMs,
  trainerSilenceMs: config.trainerSilenceMs,
  preferLoadedModelMs: config.preferLoadedModelMs,
  checkpointRetentionMs: config.checkpointsKeptHours * 3_600_000,
  checkpointQuotas: config.checkpointBytes,
  shutdownTimeoutMs: config.shutdownTimeoutMs,
  // Started again, the worker looks for the GPU again and says what is missing.
  onGpuLost: () => end('the GPU is no longer seen', NO_GPU_EXIT_CODE),
});
takesJobs = true;

end = shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    await health?.close();
    await worker.stop();
    redis.disconnect();
    stores.close();
    await tracing.close();
  },
});
// Only now: a signal that came since the last turn of the event loop is lost when it has no listener for a moment.
process.off('SIGTERM', endAtOnce);
process.off('disconnect', endAtOnce);
