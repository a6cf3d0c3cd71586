import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { specOf } from '../../../packages/contracts/dist/index.js';
import { createJobStore } from '../../../packages/queue/dist/index.js';
import { startProcess } from '../../../scripts/stack/managed-process.mjs';
import { SERVICE_PROGRAMS } from '../../../scripts/stack/service-programs.mjs';
import { startStack } from '../../../scripts/stack/start-stack.mjs';
import { SECONDS_PER_STEP, TOKENS_PER_STEP } from '../fleet/stub-trainer.mjs';
import { childAnswer, latencyOf, model, quick, ROOT, say } from '../harness.mjs';
import { createBenchKey, linkFolder } from '../parts/around.mjs';
import { figuresOf, processesWith } from '../process-figures.mjs';
import { gigabytes, percent, table } from '../tables.mjs';

/** Many workers with trainers that compute nothing, beside a real Redis, api and registry. */
export async function fleet() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fleet-'));
  try {
    const sizes = quick
      ? { workers: 20, jobs: 500, hosts: 1, scale: 1_800 }
      : { workers: 200, jobs: 20_000, hosts: 2, scale: 600 };
    const result = await fleetOfWorkers({ root: ROOT, folder, model, bases: 5, keys: 10, limitSeconds: 150, ...sizes });
    const { redis, processes, shares, outcome } = result;
    say(
      `${sizes.workers} workers with trainers that compute nothing, ${sizes.jobs} jobs of 10 minutes to 2 hours, ${sizes.scale} times as fast.`,
    );
    const rate = (/** @type {number} */ one) => `${one.toFixed(1)}/s`;
    const usage = (/** @type {{ cpuShare: number, memoryBytes: number }} */ { cpuShare, memoryBytes }) =>
      `${cpuShare.toFixed(2)} cores, ${gigabytes(memoryBytes)}`;
    say(
      table(
        ['what', 'measured'],
        [
          ['jobs recorded', rate(sizes.jobs / result.fillSeconds)],
          ['claims', rate(result.claimsPerSecond)],
          ['ends', rate(result.endsPerSecond)],
          ['ends if claims and ends took no time', rate(result.idealEndsPerSecond)],
          ['from the first claim to the last end', `${result.drainSeconds.toFixed(0)} s`],
          ['jobs that were not claimed within 150 s', result.waitingAtEnd],
          ['jobs that succeeded, attempts', `${outcome.succeeded}, ${outcome.attempts}`],
          [
            'least and largest share of a key, of an equal one',
            `${Math.min(...shares).toFixed(2)}, ${Math.max(...shares).toFixed(2)}`,
          ],
          ['base models loaded', result.loads],
          ['Redis: commands', rate(redis.commandsPerSecond)],
          ['Redis: processor, peak memory', `${redis.cpuShare.toFixed(2)} cores, ${gigabytes(redis.peakBytes)}`],
          ['Redis: connections', redis.connections],
          ['Redis: most of its time', redis.top.map(({ command, share }) => `${command} ${percent(share)}`).join(', ')],
          ['api', usage(processes.api)],
          ['registry', usage(processes.registry)],
          [`all workers, in ${sizes.hosts} processes`, usage(processes.hosts)],
        ],
      ),
    );
    const ms = (/** @type {number} */ one) => `${one.toFixed(0)} ms`;
    say(
      table(
        ['request', 'sent', 'p50', 'p99', 'worst'],
        Object.entries(result.latencies).map(([name, { count: sent, p50, p99, worst }]) => [
          name,
          sent,
          ms(p50),
          ms(p99),
          ms(worst),
        ]),
      ),
    );
    return { ...sizes, ...result };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * A fleet of workers with stub trainers beside a real Redis, api and registry.
 *
 * @typedef {object} FleetOptions
 * @property {string} root the checkout
 * @property {string} folder an empty one
 * @property {string} model
 * @property {number} workers
 * @property {number} jobs
 * @property {number} hosts processes that the workers share
 * @property {number} bases base models, each a copy of the model
 * @property {number} keys the first sends half of the jobs, before the others
 * @property {number} scale so much faster than real time the jobs train
 * @property {number} limitSeconds after so long it ends, whatever is left
 *
 * @typedef {object} FleetResult
 * @property {number} fillSeconds until all jobs were recorded
 * @property {number} drainSeconds from the first claim to the last end
 * @property {number} waitingAtEnd jobs that were not claimed within the limit
 * @property {number} claimsPerSecond over the middle half of the claims
 * @property {number} endsPerSecond over the middle half of the ends
 * @property {number} idealEndsPerSecond if claims and ends took no time
 * @property {number[]} shares of the work of each key until the first key had no job left to claim, relative to an equal share
 * @property {number} loads how often a worker loaded a base model
 * @property {{ commandsPerSecond: number, cpuShare: number, peakBytes: number, connections: number, top: { command: string, share: number }[] }} redis
 * @property {{ api: Usage, registry: Usage, hosts: Usage }} processes
 * @property {Record<string, Latency>} latencies of requests while the queue was drained, in ms
 * @property {{ succeeded: number, attempts: number }} outcome
 *
 * @typedef {{ cpuShare: number, memoryBytes: number }} Usage `cpuShare`: cores
 * @typedef {import('../harness.mjs').Latency} Latency
 */

const HOUR_STEPS = 3_600;
/** Steps of the jobs, in turn: 10 minutes to 2 hours of a second each. */
const STEPS = [600, 1_200, 2_400, HOUR_STEPS, HOUR_STEPS, 7_200];
const FILL_AT_ONCE = 64;

/** @param {FleetOptions} options @returns {Promise<FleetResult>} */
async function fleetOfWorkers({ root, folder, model, workers, jobs, hosts, bases, keys, scale, limitSeconds }) {
  const dataDir = path.join(folder, 'data');
  const modelsDir = path.join(folder, 'models');
  const names = Array.from({ length: bases }, (_, i) => `base-${i + 1}`);
  for (const name of names) await linkFolder(model, path.join(modelsDir, name));
  const limit = String(10 * jobs + 1_000);
  const mark = `LORASMITH_FLEET=${path.basename(folder)}`;
  const env = {
    ...process.env,
    LORASMITH_FLEET: path.basename(folder),
    KEY_ACTIVE_JOBS: limit,
    QUEUE_MAX_JOBS: limit,
    KEY_KEPT_JOBS: limit,
    KEPT_JOBS_MAX: limit,
    KEY_REQUESTS_PER_MINUTE: '1000000',
    JOBS_AT_ONCE: '1',
  };
  const services = SERVICE_PROGRAMS.filter(({ name }) => name === 'api' || name === 'registry');
  const stack = await startStack({ dataDir, modelsDir, env, services });
  const { redisUrl } = stack;
  const redis = new Redis(redisUrl);
  const store = createJobStore({ redis });
  try {
    const clients = await clientsOf({ root, dataDir, url: stack.apiUrl, count: keys });
    const [first, last] = [/** @type {KeyClient} */ (clients[0]), /** @type {KeyClient} */ (clients.at(-1))];
    const workerEnv = { ...env, DATA_DIR: dataDir, MODELS_DIR: modelsDir, REDIS_URL: redisUrl };
    const template = await templateOf({ sender: first, request: await requestOf(first, names[0]), workerEnv, folder });

    const beganFill = performance.now();
    await fill({ store, spec: specOf(template.job), clients, names, jobs });
    const fillSeconds = (performance.now() - beganFill) / 1e3;

    const before = await redisFigures(redis);
    const usageBefore = await processTimes(mark);
    const began = performance.now();
    const host = await startHosts({ root, workers, hosts, order: { env: workerEnv, template, scale } });
    const probe = startProbe(last.client, await requestOf(last, names[0]));
    let peakBytes = 0;
    let connections = 0;
    for (;;) {
      const status = await store.queueStatus();
      const { used_memory: used, connected_clients: connected } = await infoOf(redis);
      peakBytes = Math.max(peakBytes, Number(used));
      connections = Math.max(connections, Number(connected));
      const waiting = status.jobs.queued;
      if (waiting === 0) probe.stopSending();
      const isOver = performance.now() - began > limitSeconds * 1e3;
      if (isOver || waiting + status.jobs.preparing + status.jobs.running === 0) break;
      await wait(500);
    }
    const seconds = (performance.now() - began) / 1e3;
    const latencies = await probe.end();
    const after = await redisFigures(redis);
    const usageAfter = await processTimes(mark);
    const hostFigures = await host.stop();
    const records = await recordsOf(store);
    const trained = records.filter(({ id }) => id !== template.job.id);
    return {
      fillSeconds,
      ...throughputOf(trained),
      idealEndsPerSecond: (workers * scale) / mean(trained.map(({ training }) => training.max_steps ?? 1)),
      shares: sharesOf(trained, clients),
      loads: hostFigures.reduce((sum, { loads }) => sum + loads, 0),
      redis: {
        commandsPerSecond: (after.commands - before.commands) / seconds,
        cpuShare: (after.cpuSeconds - before.cpuSeconds) / seconds,
        peakBytes,
        connections,
        top: topOf(before, after),
      },
      processes: {
        api: usageOf('api/dist/main.js', usageBefore, usageAfter, seconds),
        registry: usageOf('registry/dist/main.js', usageBefore, usageAfter, seconds),
        hosts: {
          cpuShare: hostFigures.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0) / seconds,
          memoryBytes: hostFigures.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
        },
      },
      latencies,
      outcome: {
        succeeded: trained.filter(({ status }) => status === 'succeeded').length,
        attempts: trained.reduce((sum, { attempts }) => sum + attempts, 0),
      },
    };
  } finally {
    await store.close();
    redis.disconnect();
    await stack.stop();
  }
}

/**
 * @typedef {{ owner: import('../../../packages/contracts/dist/index.js').KeyId, client: import('../../../packages/client/dist/index.js').Client }} KeyClient
 *
 * @param {{ root: string, dataDir: string, url: string, count: number }} options
 * @returns {Promise<KeyClient[]>}
 */
async function clientsOf({ root, dataDir, url, count }) {
  const { createClient } = await import(path.join(root, 'packages/client/dist/index.js'));
  /** @type {KeyClient[]} */
  const clients = [];
  for (let i = 0; i < count; i++) {
    const { id, token } = await createBenchKey({ root, dataDir }, `key-${i + 1}`);
    clients.push({ owner: id, client: createClient({ baseUrl: url, apiKey: token }) });
  }
  return clients;
}

/**
 * A job of one step on rows of this key.
 *
 * @param {KeyClient} sender @param {string | undefined} base
 * @returns {Promise<import('../../../packages/client/dist/index.js').JobRequest>}
 */
async function requestOf({ owner, client }, base = '') {
  const text = Array.from(
    { length: 20 },
    (_, i) => `${JSON.stringify({ prompt: `${owner} ${i}`, completion: ' yes' })}\n`,
  );
  const dataset = await client.uploadDataset({ text: text.join('') });
  return {
    base_model: base,
    dataset: dataset.id,
    training: { batch_size: 1, max_steps: 1, checkpoint_every_steps: null },
  };
}

/**
 * The result of the request on a real worker, which also measures the machine, so that the api plans for one.
 *
 * @param {{ sender: KeyClient, request: import('../../../packages/client/dist/index.js').JobRequest, workerEnv: NodeJS.ProcessEnv, folder: string }} options
 */
async function templateOf({ sender: { client }, request, workerEnv, folder }) {
  const program = SERVICE_PROGRAMS.find(({ name }) => name === 'worker')?.program ?? '';
  const env = { ...workerEnv, WORKER_NAME: 'template' };
  const worker = startProcess({ name: 'template', program, env, logFile: path.join(folder, 'template.log') });
  try {
    while ((await client.machines()).length === 0) await wait(100);
    const { id } = await client.createJob(request);
    const job = await client.waitForJob(id);
    if (job.adapter === null || job.report === null) throw new Error(`the first job failed: ${job.error?.message}`);
    return { job, report: job.report, manifest: await client.manifest(job.adapter) };
  } finally {
    await worker.stop(60_000);
  }
}

/**
 * Records all jobs by the store's own code: half of them for the first key, then the others by turns for the other keys.
 *
 * @param {{ store: import('../../../packages/queue/dist/index.js').JobStore, spec: import('../../../packages/contracts/dist/index.js').JobSpec,
 *   clients: KeyClient[], names: string[], jobs: number }} options
 */
async function fill({ store, spec, clients, names, jobs }) {
  const half = Math.floor(jobs / 2);
  let next = 0;
  const add = async () => {
    for (let i = next++; i < jobs; i = next++) {
      const steps = STEPS[i % STEPS.length] ?? 1;
      const owner = clients[i < half || clients.length === 1 ? 0 : 1 + ((i - half) % (clients.length - 1))]?.owner;
      // In blocks, so that no length of job belongs to one base model or key.
      const base_model = names[Math.floor(i / STEPS.length) % names.length] ?? '';
      const job = { ...spec, base_model, training: { ...spec.training, max_steps: steps } };
      const planned = { tokens: steps * TOKENS_PER_STEP, seconds: steps * SECONDS_PER_STEP, memory: 1e9 };
      await store.createJob(job, { requestHash: '', owner, planned });
    }
  };
  await Promise.all(Array.from({ length: FILL_AT_ONCE }, add));
}

/**
 * @param {{ root: string, workers: number, hosts: number, order: Omit<import('../fleet/fleet-host.mjs').HostOrder, 'names'> }} options
 * @returns {Promise<{ stop(): Promise<import('../fleet/fleet-host.mjs').HostFigures[]> }>} once every worker runs
 */
async function startHosts({ root, workers, hosts, order }) {
  const children = Array.from({ length: hosts }, () => fork(path.join(root, 'test/bench/fleet/fleet-host.mjs')));
  const answerOf = (/** @type {import('node:child_process').ChildProcess} */ child) =>
    childAnswer(child, 'a host of workers');
  await Promise.all(
    children.map((child, host) => {
      const names = Array.from({ length: workers }, (_, i) => `worker-${i + 1}`).filter((_, i) => i % hosts === host);
      child.send({ ...order, names });
      return answerOf(child);
    }),
  );
  return {
    stop: () =>
      Promise.all(
        children.map(async (child) => {
          child.send('stop');
          return (await answerOf(child)).figures;
        }),
      ),
  };
}

/**
 * Sends requests one after the other and notes how long each takes.
 *
 * @param {import('../../../packages/client/dist/index.js').Client} client
 * @param {import('../../../packages/client/dist/index.js').JobRequest} request
 */
function startProbe(client, request) {
  /** @type {Record<string, number[]>} */
  const times = {};
  let isSending = true;
  let isOver = false;
  let seed = 0;
  /** @type {string} */
  let id = '';
  const timed = async (/** @type {string} */ name, /** @type {() => Promise<any>} */ call) => {
    const began = performance.now();
    const answer = await call();
    times[name] = [...(times[name] ?? []), performance.now() - began];
    return answer;
  };
  const probing = (async () => {
    while (!isOver) {
      if (isSending) {
        const training = { ...request.training, max_steps: STEPS[0] ?? 1, seed: ++seed };
        ({ id } = await timed('POST /jobs', () => client.createJob({ ...request, training })));
      }
      await timed('GET /jobs', () => client.listJobs({ limit: 20 }));
      await timed('GET /jobs?status=queued', () => client.listJobs({ limit: 20, status: 'queued' }));
      if (id !== '') await timed('GET /jobs/:id', () => client.getJob(id));
      await wait(50);
    }
  })();
  probing.catch(() => {});
  return {
    stopSending() {
      isSending = false;
    },
    async end() {
      isOver = true;
      await probing;
      return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, latencyOf(all)]));
    },
  };
}

/** @param {Redis} redis @returns {Promise<Record<string, string>>} */
async function infoOf(redis) {
  const lines = (await redis.info()).split('\r\n').filter((line) => line.includes(':'));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}

/**
 * @param {Redis} redis
 * @returns {Promise<{ commands: number, cpuSeconds: number, usec: Map<string, number> }>} `usec`: by command
 */
async function redisFigures(redis) {
  const info = await infoOf(redis);
  const lines = (await redis.info('commandstats')).split('\r\n');
  const usec = new Map(
    lines.flatMap((line) => {
      const [, command = '', time = '0'] = /^cmdstat_([^:]+):.*?usec=(\d+)/.exec(line) ?? [];
      return command === '' ? [] : [/** @type {[string, number]} */ ([command, Number(time)])];
    }),
  );
  return {
    commands: Number(info.total_commands_processed),
    cpuSeconds: Number(info.used_cpu_user) + Number(info.used_cpu_sys),
    usec,
  };
}

/** The commands that took most of the time of Redis. Those within scripts count for their script, too. @param {Awaited<ReturnType<typeof redisFigures>>} before @param {typeof before} after */
function topOf(before, after) {
  const spent = [...after.usec].map(([command, usec]) => ({ command, usec: usec - (before.usec.get(command) ?? 0) }));
  const total = (after.cpuSeconds - before.cpuSeconds) * 1e6;
  return spent
    .sort((one, other) => other.usec - one.usec)
    .slice(0, 5)
    .map(({ command, usec }) => ({ command, share: usec / total }));
}

/** Processor time and memory of the processes of the stack, by program. @param {string} mark */
async function processTimes(mark) {
  const all = await Promise.all(
    (await processesWith(mark)).map(async ({ pid, program }) => {
      const figures = await figuresOf(pid);
      return figures === null ? [] : [{ program, ...figures }];
    }),
  );
  return all.flat();
}

/**
 * @param {string} program @param {Awaited<ReturnType<typeof processTimes>>} before @param {typeof before} after @param {number} seconds
 * @returns {Usage}
 */
function usageOf(program, before, after, seconds) {
  const cpuOf = (/** @type {typeof before} */ all) => all.find((one) => one.program.endsWith(program))?.cpuSeconds ?? 0;
  const memoryBytes = after.find((one) => one.program.endsWith(program))?.memoryBytes ?? 0;
  return { cpuShare: (cpuOf(after) - cpuOf(before)) / seconds, memoryBytes };
}

/** @param {import('../../../packages/queue/dist/index.js').JobStore} store */
async function recordsOf(store) {
  const jobs = [];
  for (let after; ; ) {
    const page = await store.listJobs({ after, limit: 500 });
    jobs.push(...page.data);
    if (page.next === null) return jobs;
    after = page.next;
  }
}

/** @param {Awaited<ReturnType<typeof recordsOf>>} jobs */
function throughputOf(jobs) {
  const timesOf = (/** @type {'started_at' | 'ended_at'} */ field) =>
    jobs.flatMap((job) => Date.parse(job[field] ?? '') || []).sort((one, other) => one - other);
  const [starts, ends] = [timesOf('started_at'), timesOf('ended_at')];
  const rateOf = (/** @type {number[]} */ times) => {
    const [from, to] = [Math.floor(times.length / 4), Math.floor((times.length * 3) / 4)];
    return ((to - from) * 1e3) / ((times[to] ?? 0) - (times[from] ?? 0));
  };
  return {
    waitingAtEnd: jobs.length - starts.length,
    drainSeconds: ((ends.at(-1) ?? 0) - (starts[0] ?? 0)) / 1e3,
    claimsPerSecond: rateOf(starts),
    endsPerSecond: rateOf(ends),
  };
}

/** @param {Awaited<ReturnType<typeof recordsOf>>} jobs @param {KeyClient[]} clients */
function sharesOf(jobs, clients) {
  const ofKey = (/** @type {string} */ key) => jobs.filter(({ owner }) => owner === key);
  const lastStart = (/** @type {string} */ key) =>
    Math.max(...ofKey(key).map((job) => Date.parse(job.started_at ?? '') || Number.POSITIVE_INFINITY));
  // Until then, every key had jobs that waited.
  const until = Math.min(...clients.map(({ owner }) => lastStart(owner)));
  const tokens = clients.map(({ owner }) =>
    ofKey(owner)
      .filter((job) => Date.parse(job.ended_at ?? '') <= until)
      .reduce((sum, { training }) => sum + (training.max_steps ?? 0), 0),
  );
  return tokens.map((one) => one / mean(tokens));
}

/** @param {number[]} values */
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
