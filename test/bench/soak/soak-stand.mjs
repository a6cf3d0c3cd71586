import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../../../packages/client/dist/index.js';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { findRedis } from '../../../scripts/setup/redis-server.mjs';
import { answersOk, startProcess, waitUntil } from '../../../scripts/stack/managed-process.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';
import { startEmbeddedRedis } from '../../../scripts/stack/redis.mjs';
import { SERVICE_PROGRAMS } from '../../../scripts/stack/service-programs.mjs';
import { processesWith } from './process-figures.mjs';

const READY_TIMEOUT_MS = 600_000;

/**
 * @typedef {import('../../../scripts/stack/managed-process.mjs').ManagedProcess} ManagedProcess
 *
 * @typedef {object} SoakStand
 * @property {import('../../../packages/client/dist/client.js').Client} client
 * @property {string} apiUrl
 * @property {string} redisUrl
 * @property {Map<string, ManagedProcess>} parts by name; a restarted worker has a new process
 * @property {(name: string) => Promise<void>} restart starts a part again after its process has ended
 * @property {(program: string) => Promise<{ pid: number, parent: number }[]>} processes those that run this program
 * @property {() => Promise<number>} stop stops all; returns the number of processes that did not end
 */

/**
 * Runs the product on this machine with several workers. Each part can be killed and restarted.
 *
 * @param {{ folder: string, modelsDir: string, workers: string[] }} options
 * @returns {Promise<SoakStand>}
 */
export async function startSoakStand({ folder, modelsDir, workers }) {
  const dataDir = path.join(folder, 'data');
  const mark = `LORASMITH_SOAK=${randomBytes(8).toString('hex')}`;
  const { REDIS_URL: _, ...inherited } = process.env;
  const marked = { ...inherited, LORASMITH_SOAK: mark.slice('LORASMITH_SOAK='.length), TF_CPP_MIN_LOG_LEVEL: '2' };
  const { source } = await findRedis({ cache: cacheDir(marked), env: marked, progress: { update() {} } });
  if (!('serverFile' in source)) throw new Error('there is no Redis server to start: run npm run setup');
  const redis = await startEmbeddedRedis({ serverFile: source.serverFile, dataDir, env: marked });
  const [apiPort, registryPort] = [await availablePort('127.0.0.1', 0, ''), await availablePort('127.0.0.1', 0, '')];
  const [apiUrl, registryUrl] = [`http://127.0.0.1:${apiPort}`, `http://127.0.0.1:${registryPort}`];
  const env = {
    ...marked,
    DATA_DIR: dataDir,
    MODELS_DIR: modelsDir,
    REDIS_URL: redis.url,
    API_PORT: String(apiPort),
    REGISTRY_PORT: String(registryPort),
    REGISTRY_URL: registryUrl,
    JOB_LOCK_MS: '5000',
  };
  /** @type {Map<string, ManagedProcess>} */
  const parts = new Map([['redis', redis.process]]);

  const start = async (/** @type {string} */ name, /** @type {string} */ service, /** @type {string | null} */ url) => {
    const program = SERVICE_PROGRAMS.find((candidate) => candidate.name === service)?.program ?? '';
    const logFile = path.join(folder, 'logs', `${name}.log`);
    let isReadyForJobs = false;
    const part = startProcess({
      name,
      program,
      env: { ...env, WORKER_NAME: name },
      logFile,
      onLine: (line) => {
        if (line.includes('"ready for jobs"')) isReadyForJobs = true;
      },
    });
    parts.set(name, part);
    const isReady = url === null ? async () => isReadyForJobs : () => answersOk(`${url}/ready`);
    await waitUntil(isReady, { process: part, timeoutMs: READY_TIMEOUT_MS });
  };
  await start('registry', 'registry', registryUrl);
  // One after the other, because the first measures the machine for both.
  for (const name of workers) await start(name, 'worker', null);
  await start('api', 'api', apiUrl);

  return {
    client: createClient({ baseUrl: apiUrl }),
    apiUrl,
    redisUrl: redis.url,
    parts,
    async restart(name) {
      await parts.get(name)?.exited;
      await start(name, 'worker', null);
    },
    processes: async (program) => (await processesWith(mark)).filter((found) => found.program.endsWith(program)),
    async stop() {
      for (const name of ['api', ...workers, 'registry', 'redis']) {
        const part = parts.get(name);
        if (!part?.running) continue;
        process.kill(part.pid, 'SIGTERM');
        await part.exited;
      }
      const deadline = performance.now() + READY_TIMEOUT_MS;
      while ((await processesWith(mark)).length > 0 && performance.now() < deadline) await sleep(200);
      const left = await processesWith(mark);
      for (const { pid } of left) process.kill(pid, 'SIGKILL');
      return left.length;
    },
  };
}
