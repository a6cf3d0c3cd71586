// npm run upgrade-check [-- --from COMMIT]: upgrades a stack from an earlier commit (default: the one before) to this one and back, service by
// service, on the same Redis and data, while jobs train and wait.

import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { findRedis } from '../../scripts/setup/redis-server.mjs';
import { git, runCommand } from '../../scripts/setup/run-command.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { answersOk, startProcess, waitUntil } from '../../scripts/stack/managed-process.mjs';
import { availablePort } from '../../scripts/stack/ports.mjs';
import { startEmbeddedRedis } from '../../scripts/stack/redis.mjs';
import { createApiCalls, noStepTwice, startsOf } from './compose-smoke/api-calls.mjs';

const READY_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 60_000;

/**
 * The services, in the order in which docs/operations.md upgrades them, and where each says that it is ready.
 *
 * @type {Record<string, { program: string, ready: 'api' | 'registry' | 'worker' }>}
 */
const SERVICES = {
  registry: { program: 'services/registry/dist/main.js', ready: 'registry' },
  worker: { program: 'services/worker/dist/main.js', ready: 'worker' },
  api: { program: 'services/api/dist/main.js', ready: 'api' },
};

/** One data folder and one Redis, on which each service runs in one of several versions. */
class RollingStack {
  /** @type {Map<string, import('../../scripts/stack/managed-process.mjs').ManagedProcess>} */
  #running = new Map();
  /** @type {import('../../scripts/stack/managed-process.mjs').ManagedProcess} */
  #redis;
  #settings;
  #ports;
  #dataDir;

  /**
   * @param {object} parts
   * @param {import('../../scripts/stack/managed-process.mjs').ManagedProcess} parts.redis
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

/** Long enough that it trains while three services are replaced. */
const STEPS = 40;
const JOB = {
  base_model: DEMO_MODEL_NAME,
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: {
    ...{ epochs: 10, max_steps: STEPS, batch_size: 4, learning_rate: 1e-3, max_seq_length: 128 },
    checkpoint_every_steps: 10,
  },
};

await runAsCommand(async () => {
  const { values } = parseArgs({ options: { from: { type: 'string', default: 'HEAD~1' } } });
  const signal = interruption();
  const { modelsDir } = await setUp();
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-upgrade-'));
  try {
    const older = { name: 'older', folder: path.join(folder, 'older') };
    const commit = await git('rev-parse', '--verify', `${values.from}^{commit}`);
    await runCommand('git', ['clone', '--quiet', ROOT_DIR, older.folder]);
    await git('-C', older.folder, 'checkout', '--quiet', '--detach', commit);
    console.log(`set-up of ${commit.slice(0, 12)}, the older version`);
    const env = { ...process.env, MODELS_DIR: modelsDir };
    await runCommand(process.execPath, ['scripts/setup.mjs'], { cwd: older.folder, env });
    const newer = { name: 'newer', folder: ROOT_DIR };
    await check({ older, newer, folder, modelsDir, signal });
    return 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/**
 * @param {{ older: { name: string, folder: string }, newer: { name: string, folder: string }, folder: string, modelsDir: string,
 *   signal: AbortSignal }} options
 */
async function check({ older, newer, folder, modelsDir, signal }) {
  const dataDir = path.join(folder, 'data');
  const stack = await RollingStack.start({ dataDir, modelsDir, cache: cacheDir(process.env), signal });
  const api = createApiCalls(stack.apiUrl, signal);
  /** @param {{ name: string, folder: string }} version @param {string} job that trains meanwhile */
  const replaceAll = async (version, job) => {
    const { progress } = await api.waitForJob(job, isTraining);
    for (const name of Object.keys(SERVICES)) await stack.run(name, version);
    console.log(`${job} was at step ${progress.step}; all services are ${version.name} now`);
  };
  try {
    for (const name of Object.keys(SERVICES)) await stack.run(name, older);
    const dataset = await api.uploadDataset(await readFile(path.join(ROOT_DIR, 'examples/dates/train.jsonl')));
    const send = () => api.createJob({ ...JOB, dataset });
    const adapterOf = async (/** @type {string} */ job) => {
      const { adapter } = await api.waitForJob(job, ({ status }) => status === 'succeeded');
      const file = await api.download(`/adapters/${adapter}/files/adapter_model.safetensors`);
      return createHash('sha256').update(file).digest('hex');
    };
    const allListed = async (/** @type {number} */ adapters) => {
      const { data } = await api.get('/adapters?limit=100');
      if (data.length !== adapters) throw new Error(`${data.length} adapters of ${adapters} are listed`);
    };
    const undisturbed = await send();
    const expected = await adapterOf(undisturbed);
    console.log(`undisturbed on older: adapter ${expected.slice(0, 16)}`);

    const upgraded = await send();
    const rolledBack = await send();
    await replaceAll(newer, upgraded);
    const found = [['upgraded', await adapterOf(upgraded)]];
    await allListed(2);
    const sentToNewer = await send();
    await replaceAll(older, rolledBack);
    found.push(['rolled back', await adapterOf(rolledBack)], ['sent to newer', await adapterOf(sentToNewer)]);

    const onBoth = [upgraded, rolledBack];
    for (const job of onBoth) {
      const events = await api.events(job);
      const workers = startsOf(events);
      if (workers.length !== 2 || workers[0] === workers[1]) {
        throw new Error(
          `${job} was trained by ${workers}: it ended before its worker was replaced, or started too often`,
        );
      }
      noStepTwice(events, STEPS);
    }
    await allListed(4);
    for (const [what, digest] of found) {
      console.log(`${what}: adapter ${digest?.slice(0, 16)}`);
      if (digest !== expected) throw new Error(`the adapter of the job that was ${what} is another one`);
    }
    const { data } = await api.get('/jobs?limit=100');
    if (data.length !== 4) throw new Error(`there are ${data.length} jobs of 4`);
    console.log('upgrade and rollback with jobs in flight: passed');
  } catch (error) {
    console.log(stack.logs());
    throw error;
  } finally {
    await stack.stop();
  }
}

/** @param {any} job */
function isTraining({ status, progress }) {
  if (status === 'succeeded') throw new Error('the job ended before its worker was replaced: it is too short');
  return status === 'running' && progress?.step >= 3;
}
