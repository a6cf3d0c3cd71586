import path from 'node:path';
import { findRedis } from '../../../scripts/setup/redis-server.mjs';
import { answersOk, startProcess, waitUntil } from '../../../scripts/stack/managed-process.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';
import { startEmbeddedRedis } from '../../../scripts/stack/redis.mjs';

const READY_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 60_000;

/**
 * The services, in the order in which docs/operations.md upgrades them, and where each says that it is ready.
 *
 * @type {Record<string, { program: string, ready: 'api' | 'registry' | 'worker' }>}
 */
export const SERVICES = {
  registry: { program: 'services/registry/dist/main.js', ready: 'registry' },
  worker: { program: 'services/worker/dist/main.js', ready: 'worker' },
  api: { program: 'services/api/dist/main.js', ready: 'api' },
};

/** One data folder and one Redis, on which each service runs in one of several versions. */
export class RollingStack {
  /** @type {Map<string, import('../../../scripts/stack/managed-process.mjs').ManagedProcess>} */
  #running = new Map();
  /** @type {import('../../../scripts/stack/managed-process.mjs').ManagedProcess} */
  #redis;
  #settings;
  #ports;
  #dataDir;

  /**
   * @param {object} parts
   * @param {import('../../../scripts/stack/managed-process.mjs').ManagedProcess} parts.redis
   * @param {NodeJS.ProcessEnv} parts.settings
   * @param {Record<string, number>} parts.ports
   * @param {string} parts.dataDir
   */
  constructor({ redis, settings, ports, dataDir }) {
    this.#redis = redis;
    this.#settings = settings;
    this.#ports = ports;
    this.#dataDir = dataDir;
  }

  /**
   * @param {{ dataDir: string, modelsDir: string, cache: string, signal: AbortSignal }} options
   * @returns {Promise<RollingStack>} with Redis alone
   */
  static async start({ dataDir, modelsDir, cache, signal }) {
    const { env } = process;
    const { source } = await findRedis({ cache, env: { ...env, REDIS_URL: '' }, progress: { update() {} } });
    if (!('serverFile' in source)) throw new Error('there is no Redis server that this check can start');
    const redis = await startEmbeddedRedis({ serverFile: source.serverFile, dataDir, env, signal });
    /** @type {Record<string, number>} */
    const ports = {};
    for (const name of Object.keys(SERVICES)) ports[name] = await availablePort('127.0.0.1', 0, name);
    const settings = {
      ...env,
      TF_CPP_MIN_LOG_LEVEL: '2',
      DATA_DIR: dataDir,
      MODELS_DIR: modelsDir,
      REDIS_URL: redis.url,
      API_HOST: '127.0.0.1',
      API_PORT: String(ports.api),
      REGISTRY_HOST: '127.0.0.1',
      REGISTRY_PORT: String(ports.registry),
      REGISTRY_URL: `http://127.0.0.1:${ports.registry}`,
      WORKER_HEALTH_PORT: String(ports.worker),
      DEVICE: 'cpu',
      // So that one job waits while another trains.
      JOBS_AT_ONCE: '1',
    };
    return new RollingStack({ redis: redis.process, settings, ports, dataDir });
  }

  get apiUrl() {
    return `http://127.0.0.1:${this.#ports.api}`;
  }

  /**
   * Ends a service, if it runs, as an operator does, and starts it in a version.
   *
   * @param {string} name one of {@link SERVICES} @param {{ name: string, folder: string }} version
   */
  async run(name, version) {
    await this.#running.get(name)?.stop(STOP_TIMEOUT_MS);
    const { program, ready } = /** @type {(typeof SERVICES)[string]} */ (SERVICES[name]);
    const started = startProcess({
      name,
      program: path.join(version.folder, program),
      env: { ...this.#settings, WORKER_NAME: version.name },
      logFile: path.join(this.#dataDir, 'logs', `${name}-${version.name}.log`),
    });
    this.#running.set(name, started);
    const url = `http://127.0.0.1:${this.#ports[ready]}/ready`;
    await waitUntil(() => answersOk(url), { process: started, timeoutMs: READY_TIMEOUT_MS });
  }

  async stop() {
    for (const name of Object.keys(SERVICES).reverse()) await this.#running.get(name)?.stop(STOP_TIMEOUT_MS);
    await this.#redis.stop(STOP_TIMEOUT_MS);
  }

  /** @returns {string} the last lines of each service */
  logs() {
    return [...this.#running.values()].map((one) => `${one.name}:\n${one.tail()}`).join('\n');
  }
}
