// A process with many workers, each with its own connection to Redis: the worker's own code, but for the trainer (stub-trainer.mjs). A child of
// test/bench/benches/fleet.mjs.
import { once } from 'node:events';
import {
  connectRedis,
  createLogger,
  NO_TRACING,
  Registry,
  readConfig,
} from '../../../packages/service-kit/dist/index.js';
import { openStores } from '../../../packages/storage/dist/index.js';
import { cpuEngine } from '../../../services/worker/dist/device/choose-engine.js';
import { startWorker, WORKER_SETTINGS } from '../../../services/worker/dist/index.js';
import { startStubTrainer } from './stub-trainer.mjs';

/**
 * @typedef {{ names: string[], env: NodeJS.ProcessEnv, template: import('./stub-trainer.mjs').Template, scale: number }} HostOrder
 * @typedef {{ loads: number, cpuSeconds: number, memoryBytes: number }} HostFigures `loads`: how often a base model was loaded
 */

const send = (/** @type {object} */ message) => process.send?.(message);
const [order] = /** @type {[HostOrder]} */ (await once(process, 'message'));
const { names, env, template, scale } = order;
const log = createLogger({ service: 'worker', level: 'warn' });
let loads = 0;
const workers = await Promise.all(
  names.map(async (name) => {
    const config = readConfig(WORKER_SETTINGS, { ...env, WORKER_NAME: name });
    const redis = connectRedis({ ...config.redis, whenUnavailable: 'wait', name: `worker:${name}`, logger: log });
    const worker = await startWorker({
      config,
      redis,
      stores: await openStores({ dataDir: config.dataDir, s3: null }),
      programs: { trainer: '', probe: null, tryGpu: null },
      engine: cpuEngine({}),
      startTrainer: () => startStubTrainer({ template, scale, onLoad: () => loads++ }),
      log,
      metrics: new Registry(),
      tracing: NO_TRACING,
      onGpuLost: () => {},
    });
    return { worker, redis };
  }),
);
send({ kind: 'started' });
await once(process, 'message');
/** @type {HostFigures} */
const figures = { loads, cpuSeconds: cpuSeconds(), memoryBytes: process.memoryUsage().rss };
await Promise.all(workers.map(({ worker }) => worker.stop()));
for (const { redis } of workers) redis.disconnect();
send({ kind: 'figures', figures });
process.disconnect();

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
