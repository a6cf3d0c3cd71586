import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NO_GPU_EXIT_CODE } from '@lorasmith/child-processes';
import { openWorkerStarts } from '@lorasmith/queue';
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
import { lockCard } from './device/card-lock.js';
import { chooseEngine, GPU_LORA_PADDING } from './device/choose-engine.js';
import { NoGpuError } from './device/gpu-faults.js';
import { rememberedSelfTest } from './self-test/stored-self-test.js';
import { WORKER_SETTINGS } from './settings.js';
import { startWorker } from './start-worker.js';
import { announceStart, buildWorkerHealth } from './worker-readiness.js';

/** A supervisor and Prometheus use one or two. */
const HEALTH_CONNECTIONS = 100;
/** The time for which /ready says why the worker cannot train, before it ends. */
const SHOWN_BEFORE_END_MS = 10_000;
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
let hindrance: string | null = null;
/** `npm start` reads it from the channel of its child. A worker of its own has none. */
const hinder = (reason: string | null) => {
  hindrance = reason;
  if (process.connected) process.send?.({ hindrance: reason }, undefined, undefined, () => {});
};
hinder('it is still starting');
const start = announceStart(openWorkerStarts({ redis, prefix: config.redis.prefix }), config.workerName);
const health =
  config.health.port === 0
    ? null
    : await buildWorkerHealth({ redis, folders, stores, log: logger, metrics, hindrance: () => hindrance });
if (health !== null) {
  const address = {
    ...config.health,
    maxConnections: HEALTH_CONNECTIONS,
    hostVariable: 'WORKER_HEALTH_HOST',
    portVariable: 'WORKER_HEALTH_PORT',
  };
  await listen(health, address).catch(exitOnWrongConfiguration);
}
const programIn = (folder: string, name: string) => fileURLToPath(new URL(`${folder}/${name}.js`, import.meta.url));
const engine = await chooseEngine({
  device: config.device,
  engine: config.gpuEngine,
  environment: { ...process.env, [GPU_LORA_PADDING]: config.gpuLoraPadding },
  programs: {
    describeDriver: programIn('device', 'gpu-probes-main'),
    probeGpu: programIn('device', 'gpu-probes-main'),
  },
  lock: (uuid) =>
    lockCard({ dataDir, uuid, workerName: config.workerName }).catch((error: unknown) => {
      if (error instanceof NoGpuError) throw error;
      logger.warn({ err: error }, 'DATA_DIR holds no locks: a second worker on the same GPU is not noticed');
    }),
  selfTest: async (tested) => {
    const onStart = () => {
      start.enter('self-test');
      hinder(
        'it is comparing its engine on the GPU with the CPU, which takes a minute, or several on a slow processor',
      );
    };
    const options = { dataDir, log: logger, program: programIn('self-test', 'self-test-main') };
    return await rememberedSelfTest({ ...options, sizes: config.gpuSelfTest, onStart }, tested);
  },
  log: logger,
}).catch(async (error: unknown) => {
  if (!(error instanceof NoGpuError)) throw error;
  process.stderr.write(`${error.message}\n`);
  hinder(error.message);
  void start.end();
  // Meanwhile /ready says why, and a supervisor that restarts the worker at once does not do so in a tight loop.
  if (health !== null) await setTimeout(SHOWN_BEFORE_END_MS);
  process.exit(error.exitCode);
});
start.enter('measuring');
hinder('it is measuring its machine, which takes about half a minute at the first start');
const worker = await startWorker({
  config,
  redis,
  stores,
  programs: {
    trainer: programIn('trainer', 'child-main'),
    probe: programIn('trainer', 'probe-main'),
    tryGpu: programIn('device', 'gpu-probes-main'),
  },
  engine,
  log: logger,
  metrics,
  tracing,
  // Started again, the worker looks for the GPU again and says what is missing.
  onGpuLost(fault) {
    hinder(`its GPU is lost: ${fault}`);
    end('the GPU is lost', NO_GPU_EXIT_CODE);
  },
});
hinder(null);
void start.end();

end = shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    // Until it has stopped, /ready says that it takes no jobs.
    if (hindrance === null) hinder('it is stopping');
    await worker.stop();
    await health?.close();
    redis.disconnect();
    stores.close();
    await tracing.close();
  },
});
// Only now: a signal that came since the last iteration of the event loop is lost when it has no listener for a moment.
process.off('SIGTERM', endAtOnce);
process.off('disconnect', endAtOnce);
