import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Client, createClient } from '../../packages/client/src/index.js';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { findRedis } from '../../scripts/setup/redis-server.mjs';
import { answersOk, type ManagedProcess, startProcess, waitUntil } from '../../scripts/stack/managed-process.mjs';
import { SERVICE_PROGRAMS } from '../../scripts/stack/service-programs.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { makeDataFolder } from '../data-folder.js';
import { writeTinyLlama } from '../tiny-llama.js';

const READY_TIMEOUT_MS = 60_000;
const REST_AFTER_STEPS = new URL('../../services/worker/test/fixtures/rest-after-steps.mjs', import.meta.url);

/** The complete product for one test file: compiled services, a real Redis, a real trainer, and the page that the api serves. */
export interface PageStack {
  /** The address of the page, with a slash at its end. */
  url: string;
  redisUrl: string;
  client: Client;
  folder: string;
  modelsDir: string;
  logsDir: string;
  stopApi(): Promise<void>;
  /** Starts it again, at the same address. */
  startApi(): Promise<void>;
  stop(): Promise<void>;
}

/** The secret of api and registry, since the api is started apart. */
const SERVICE_SECRET = 'the-secret-of-the-services-of-the-page';

export interface PageStackOptions {
  /** True if jobs are trained. @defaultValue true */
  worker?: boolean;
  /** Further settings of the services. */
  env?: NodeJS.ProcessEnv;
}

/** The base model is `tiny-llama`. */
export async function startPageStack({ worker = true, env = {} }: PageStackOptions = {}): Promise<PageStack> {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-browser-'));
  const [dataDir, modelsDir] = [path.join(folder, 'data'), path.join(folder, 'models')];
  await makeDataFolder(dataDir);
  await writeTinyLlama(path.join(modelsDir, 'tiny-llama'));
  const apart = SERVICE_PROGRAMS.filter(({ name }) => name !== 'api' && (worker || name !== 'worker'));
  // A Redis of its own: API keys would remain in another.
  const { source } = await findRedis({
    cache: cacheDir(process.env),
    env: { ...process.env, REDIS_URL: '' },
    progress: { update() {} },
  });
  const stack = await startStack({
    dataDir,
    modelsDir,
    services: apart,
    redis: source,
    env: { ...process.env, NODE_OPTIONS: `--import=${REST_AFTER_STEPS}`, SERVICE_SECRET, ...env },
  });
  const api = SERVICE_PROGRAMS.find(({ name }) => name === 'api')!;
  const { port } = new URL(stack.apiUrl);
  let running: ManagedProcess | null = null;
  const stopApi = async () => {
    await running?.stop(api.stopTimeoutMs);
    running = null;
  };
  const startApi = async () => {
    running = startProcess({
      name: 'api',
      program: api.program,
      env: {
        ...process.env,
        ...env,
        DATA_DIR: dataDir,
        DELIVERY_FOLDER: path.join(folder, 'deliveries'),
        MODELS_DIR: modelsDir,
        REDIS_URL: stack.redisUrl,
        REGISTRY_URL: stack.registryUrl,
        SERVICE_SECRET,
        API_PORT: port,
      },
      logFile: path.join(stack.logsDir, 'api.log'),
    });
    const ready = `${stack.apiUrl}/ready`;
    await waitUntil(() => answersOk(ready), { process: running, timeoutMs: READY_TIMEOUT_MS });
  };
  const stop = async () => {
    await stopApi();
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await startApi();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `${stack.apiUrl}/`,
    redisUrl: stack.redisUrl,
    client: createClient({ baseUrl: stack.apiUrl }),
    folder,
    modelsDir,
    logsDir: stack.logsDir,
    stopApi,
    startApi,
    stop,
  };
}
