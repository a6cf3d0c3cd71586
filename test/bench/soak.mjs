// npm run soak -- [--jobs 200] [--kills 0.3] [--seed 1] [--out FILE.json]
// Runs small jobs on two workers and kills trainers and workers at random. Every job must end correctly, and the long-lived
// processes must not grow. See test/bench/README.md.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { createClient } from '../../packages/client/dist/index.js';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { findRedis } from '../../scripts/setup/redis-server.mjs';
import { answersOk, startProcess, waitUntil } from '../../scripts/stack/managed-process.mjs';
import { availablePort } from '../../scripts/stack/ports.mjs';
import { startEmbeddedRedis } from '../../scripts/stack/redis.mjs';
import { SERVICE_PROGRAMS } from '../../scripts/stack/service-programs.mjs';
import { writeTinyLlama } from '../tiny-llama.mjs';
import { figuresOf, processesWith } from './process-figures.mjs';
import { table } from './tables.mjs';

const WORKERS = ['worker-1', 'worker-2'];
const SAMPLES = 10;
/** Jobs that are in the queue at once, so that the workers never wait and the api is always in use. */
const AHEAD = 8;
/** A job can be killed several times. After this time it counts as hanging. */
const JOB_TIMEOUT_MS = 600_000;
const READY_TIMEOUT_MS = 600_000;

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '200' },
    kills: { type: 'string', default: '0.3' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string' },
  },
});
const jobCount = Number(values.jobs);
const killsPerJob = Number(values.kills);
const random = randomNumbers(Number(values.seed));

const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-soak-'));
const modelsDir = path.join(folder, 'models');
await writeTinyLlama(path.join(modelsDir, 'tiny-llama'));
const stand = await startSoakStand({ folder, modelsDir, workers: WORKERS });
const redis = new Redis(stand.redisUrl);
const kills = { trainers: 0, workers: 0 };
/** @type {object[]} */
const samples = [];
/** @type {Record<string, number>} */
const endings = {};
let wrong = 0;
let attempts = 0;
let ended = 0;
let orphans = 0;
let expected = '';
const start = performance.now();

try {
  const rows = Array.from({ length: 24 }, (_, i) => JSON.stringify({ prompt: `Say ${i}.`, completion: `It is ${i}.` }));
  const { id: dataset } = await stand.client.uploadDataset({ text: `${rows.join('\n')}\n` });
  expected = await digestOf(await submit(dataset));
  await sample();

  const killing = new AbortController();
  const killer = killAtRandom(killing.signal);
  killer.catch(() => {});
  let submitted = 0;
  const runOne = async () => {
    while (submitted < jobCount) {
      submitted++;
      account(await submit(dataset));
      if (ended % Math.ceil(jobCount / SAMPLES) === 0) await sample();
    }
  };
  await Promise.all(Array.from({ length: AHEAD }, runOne));
  killing.abort();
  await killer;
  await checkAdapters();
} finally {
  redis.disconnect();
  orphans = await stand.stop();
}
const leftovers = (await readdir(path.join(folder, 'data', '.staging')).catch(() => [])).length;
report();
await rm(folder, { recursive: true, force: true });
if (wrong > 0 || orphans > 0 || ended !== jobCount) process.exitCode = 1;

/** @param {string} dataset @returns {Promise<import('../../packages/client/dist/index.js').Job>} the finished job */
async function submit(dataset) {
  const request = {
    base_model: 'tiny-llama',
    dataset,
    lora: { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] },
    training: {
      max_steps: 12,
      checkpoint_every_steps: 3,
      batch_size: 4,
      learning_rate: 0.005,
      precision: /** @type {const} */ ('float32'),
    },
  };
  const { id } = await stand.client.createJob(request, { idempotencyKey: randomUUID() });
  return await stand.client.waitForJob(id, { signal: AbortSignal.timeout(JOB_TIMEOUT_MS) });
}

/** @param {import('../../packages/client/dist/index.js').Job} job */
function account(job) {
  ended++;
  attempts += job.attempts;
  const ending = job.status === 'failed' ? `failed: ${job.error?.code}` : job.status;
  endings[ending] = (endings[ending] ?? 0) + 1;
  if (job.status === 'failed' && !['out_of_memory', 'trainer_crashed'].includes(job.error?.code ?? '')) wrong++;
}

/** @param {import('../../packages/client/dist/index.js').Job} job @returns {Promise<string>} digest of the weights that the api serves */
async function digestOf(job) {
  const answer = await fetch(`${stand.apiUrl}/adapters/${job.adapter}/files/adapter_model.safetensors`);
  return createHash('sha256')
    .update(Buffer.from(await answer.arrayBuffer()))
    .digest('hex');
}

/** Checks that each succeeded job has an adapter, with the same bytes as the undisturbed one, and that there are no others. */
async function checkAdapters() {
  let after;
  let adapters = 0;
  do {
    /** @type {import('../../packages/client/dist/index.js').Paged<import('../../packages/client/dist/index.js').Job>} */
    const page = await stand.client.listJobs({ limit: 100, ...(after === undefined ? {} : { after }) });
    for (const job of page.data) {
      if (job.status !== 'succeeded') continue;
      adapters++;
      if ((await digestOf(job)) !== expected) wrong++;
    }
    after = page.next ?? undefined;
  } while (after !== undefined);
  const published = (await readdir(path.join(folder, 'data', 'adapters'))).length;
  if (published !== adapters) wrong++;
}

/** @param {AbortSignal} signal */
async function killAtRandom(signal) {
  while (!signal.aborted) {
    await sleep(100);
    if (kills.trainers + kills.workers >= ended * killsPerJob) continue;
    // At a random moment of the work.
    await sleep(random() * 700);
    if (random() < 0.5) {
      const trainers = await stand.processes('trainer/child-main.js');
      const victim = trainers[Math.floor(random() * trainers.length)];
      if (victim === undefined) continue;
      process.kill(victim.pid, 'SIGKILL');
      kills.trainers++;
    } else {
      const name = WORKERS[Math.floor(random() * WORKERS.length)] ?? '';
      process.kill(stand.parts.get(name)?.pid ?? 0, 'SIGKILL');
      kills.workers++;
      await stand.restart(name);
    }
  }
}

async function sample() {
  const memory = /used_memory:(\d+)/.exec(await redis.info('memory'))?.[1] ?? '0';
  const clients = /connected_clients:(\d+)/.exec(await redis.info('clients'))?.[1] ?? '0';
  const [api, registry] = await Promise.all(
    ['api', 'registry'].map((name) => figuresOf(stand.parts.get(name)?.pid ?? 0)),
  );
  const processes = (await stand.processes('.js')).length;
  samples.push({
    ended,
    kills: kills.trainers + kills.workers,
    api,
    registry,
    processes,
    redisBytes: Number(memory),
    clients: Number(clients),
  });
}

function report() {
  const seconds = (performance.now() - start) / 1000;
  const megabytes = (/** @type {number | undefined} */ bytes) => `${((bytes ?? 0) / 1e6).toFixed(1)} MB`;
  const rowOf = (/** @type {any} */ { ended: jobs, kills: killed, api, registry, processes, redisBytes, clients }) => [
    jobs,
    killed,
    megabytes(api?.memoryBytes),
    `${api?.descriptors} / ${api?.threads}`,
    megabytes(registry?.memoryBytes),
    `${registry?.descriptors} / ${registry?.threads}`,
    processes,
    clients,
    megabytes(redisBytes),
  ];
  const head = [
    'jobs ended',
    'kills',
    'api memory',
    'api fds / threads',
    'registry memory',
    'registry fds / threads',
    'processes',
    'Redis clients',
    'Redis memory',
  ];
  console.log(table(head, samples.map(rowOf)));
  const summary = {
    jobs: jobCount,
    ended,
    endings,
    attempts,
    kills,
    wrong,
    orphans,
    leftovers,
    seconds: Math.round(seconds),
  };
  console.log(JSON.stringify(summary));
  if (values.out !== undefined) void writeFile(values.out, `${JSON.stringify({ summary, samples }, null, 2)}\n`);
}

/** mulberry32: the same kills for the same seed, if the machine's timing is the same. @param {number} seed */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * @typedef {import('../../scripts/stack/managed-process.mjs').ManagedProcess} ManagedProcess
 *
 * @typedef {object} SoakStand
 * @property {import('../../packages/client/dist/client.js').Client} client
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
async function startSoakStand({ folder, modelsDir, workers }) {
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
