import { fileURLToPath } from 'node:url';
import { connectRedis, createLogger, readConfigOrExit, shutDownInOrder } from '@lorasmith/service-kit';
import { WORKER_SETTINGS } from './settings.js';
import { startWorker } from './start-worker.js';

const config = readConfigOrExit(WORKER_SETTINGS, process.env);
const logger = createLogger({ service: 'worker', level: config.logLevel });
const redis = connectRedis({ url: config.redis.url, whenAway: 'wait', name: `worker ${config.workerName}`, logger });
const worker = await startWorker({
  redis,
  prefix: config.redis.prefix,
  dataDir: config.dataDir,
  modelsDir: config.modelsDir,
  workerName: config.workerName,
  trainerProgram: fileURLToPath(new URL('trainer/child-main.js', import.meta.url)),
  probeProgram: fileURLToPath(new URL('trainer/probe-main.js', import.meta.url)),
  environment: process.env,
  log: logger,
  jobLockMs: config.jobLockMs,
  trainerIdleMs: config.trainerIdleMs,
  shutdownTimeoutMs: config.shutdownTimeoutMs,
});

shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    await worker.stop();
    redis.disconnect();
  },
});
