import { fileURLToPath } from 'node:url';
import { connectRedis, createLogger, readConfigOrExit, shutDownInOrder } from '@lorasmith/service-kit';
import { chooseDevice, NoGpuError } from './device/choose-device.js';
import { WORKER_SETTINGS } from './settings.js';
import { startWorker } from './start-worker.js';
import { buildWorkerHealth } from './worker-health.js';

const config = readConfigOrExit(WORKER_SETTINGS, process.env);
const logger = createLogger({ service: 'worker', level: config.logLevel });
// Until there is something to end in order. The first process of a container ignores a signal without a handler.
const endAtOnce = () => process.exit(0);
process.on('SIGTERM', endAtOnce);
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
const redis = connectRedis({ url: config.redis.url, whenAway: 'wait', name: `worker:${config.workerName}`, logger });
const worker = await startWorker({
  redis,
  prefix: config.redis.prefix,
  dataDir: config.dataDir,
  modelsDir: config.modelsDir,
  tokenCacheBytes: config.tokenCacheBytes,
  workerName: config.workerName,
  trainerProgram: fileURLToPath(new URL('trainer/child-main.js', import.meta.url)),
  probeProgram: fileURLToPath(new URL('trainer/probe-main.js', import.meta.url)),
  device,
  environment: process.env,
  log: logger,
  jobLockMs: config.jobLockMs,
  trainerIdleMs: config.trainerIdleMs,
  shutdownTimeoutMs: config.shutdownTimeoutMs,
});
const { dataDir, modelsDir, healthPort } = config;
const health = healthPort === 0 ? null : await buildWorkerHealth({ redis, dataDir, modelsDir, log: logger });

process.off('SIGTERM', endAtOnce);
shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    await health?.close();
    await worker.stop();
    redis.disconnect();
  },
});
if (health !== null) await health.listen({ host: '127.0.0.1', port: healthPort });
