import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Client, createClient } from '../../../packages/client/src/index.js';
import { answersOk, type ManagedProcess, startProcess } from '../../../scripts/stack/managed-process.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';
import { SERVICE_PROGRAMS } from '../../../scripts/stack/service-programs.mjs';
import { checkpointGate } from '../../checkpoint-gate.js';
import { eventually } from './eventually.js';
import { type Watch, watchForIncompleteFiles } from './incomplete-files.js';
import { processesWith, type RunningProcess } from './processes.js';
import { type RedisUnderFault, startRedisUnderFault } from './redis-under-fault.js';

const EQUIPMENT = new URL('../equipment/', import.meta.url);
/** The lock for tests in which a slow worker must keep its job: a busy machine may stall for a minute. */
const PATIENT_LOCK_MS = 300_000;
/** The lock for tests in which a dead worker must be noticed soon. */
export const SHORT_LOCK_MS = 4_000;

/** A service of the stand, as a separate process. */
export interface Part extends ManagedProcess {
  /** The messages that it logged so far. */
  messages: string[];
  /** Sends a signal to the process itself and to none of its children. */
  signal(signal: NodeJS.Signals): void;
}

/** One exact file operation at which a program receives a signal. @see equipment/strike-at-file-call.mjs */
export interface Strike {
  /** The end of the program's path. */
  program:
    | 'trainer/child-main.js'
    | 'worker/dist/main.js'
    | 'merging/merge-child-main.js'
    | 'registry/dist/main.js'
    | 'api/dist/main.js';
  /** `start`: before the program itself starts. */
  call: 'open' | 'write' | 'sync' | 'rename' | 'start';
  when: 'before' | 'after';
  /** A regular expression of the file's path; of a rename, the new one. */
  path: string;
  /** The number of operations that pass before it. @defaultValue 0 */
  skip?: number;
  /** @defaultValue SIGKILL */
  signal?: NodeJS.Signals;
  /** True if every process is struck that comes there. @defaultValue false: only the first */
  isRepeated?: boolean;
}

/** The complete product (compiled services, a real Redis, real trainers) and functions to break each part. */
export interface FaultStand {
  folder: string;
  dataDir: string;
  client: Client;
  apiUrl: string;
  registryUrl: string;
  redis: RedisUnderFault;
  watch: Watch;
  startApi(): Promise<Part>;
  startRegistry(): Promise<Part>;
  startWorker(name: string, options?: WorkerOfStand): Promise<Part>;
  /** The processes of the stand that run this program. */
  processes(program: string): Promise<RunningProcess[]>;
  /** The trainer; waits until there is one. */
  trainer(): Promise<RunningProcess>;
  /** Plans a strike. @returns `struck`, which waits until it has happened */
  plan(strike: Strike): Promise<{ struck: () => Promise<void> }>;
  /** Holds every job at the checkpoint of this step until it is asked to stop or to pause, or is released. */
  holdAt(step: number): Promise<void>;
  release(): Promise<void>;
  shiftClock(byMs: number): Promise<void>;
  /** Removes the stored tokens of all datasets. */
  removeTokens(): Promise<void>;
  /** Ends everything. @throws an Error when something incomplete was visible, or a process outlived its parent */
  close(): Promise<void>;
}

export interface WorkerOfStand {
  env?: NodeJS.ProcessEnv;
  /** The port of a proxy of Redis. @defaultValue Redis itself */
  redisPort?: number;
  /** True if the start waits until the worker takes jobs. @defaultValue true */
  awaitReady?: boolean;
}

export interface StandOptions {
  modelsDir: string;
  /** Earlier measurements of this machine, so that no worker measures it again. */
  machinesDir?: string;
  /** @defaultValue longer than any test takes */
  jobLockMs?: number;
  /** @defaultValue a folder of the stand */
  dataDir?: string;
  env?: NodeJS.ProcessEnv;
}

export async function startStand({ modelsDir, machinesDir, ...options }: StandOptions): Promise<FaultStand> {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-faults-'));
  const dataDir = options.dataDir ?? path.join(folder, 'data');
  await mkdir(dataDir, { recursive: true });
  if (machinesDir !== undefined) await cp(machinesDir, path.join(dataDir, 'machines'), { recursive: true });
  const stand = `FAULT_STAND=${randomBytes(8).toString('hex')}`;
  const planFile = path.join(folder, 'plan.json');
  const clockFile = path.join(folder, 'clock-shift');
  const [apiPort, registryPort] = [await availablePort('127.0.0.1', 0, ''), await availablePort('127.0.0.1', 0, '')];
  const [apiUrl, registryUrl] = [`http://127.0.0.1:${apiPort}`, `http://127.0.0.1:${registryPort}`];
  const { REDIS_URL: _, ...inherited } = process.env;
  const gate = checkpointGate(path.join(folder, 'gate'));
  const preloads = ['strike-at-file-call.mjs', 'shifted-clock.mjs'].map(
    (name) => `--import=${new URL(name, EQUIPMENT)}`,
  );
  const baseEnv = { ...inherited, TF_CPP_MIN_LOG_LEVEL: '2', FAULT_STAND: stand.slice('FAULT_STAND='.length) };
  const redis = await startRedisUnderFault({
    folder: path.join(folder, 'redis'),
    logFile: path.join(folder, 'logs/redis.log'),
    env: baseEnv,
  });
  const env = {
    ...baseEnv,
    NODE_OPTIONS: [...preloads, gate.nodeOption].join(' '),
    FAULT_PLAN_FILE: planFile,
    CLOCK_SHIFT_FILE: clockFile,
    ...gate.environment,
    DATA_DIR: dataDir,
    MODELS_DIR: modelsDir,
    REDIS_URL: redis.url,
    API_PORT: String(apiPort),
    REGISTRY_PORT: String(registryPort),
    REGISTRY_URL: registryUrl,
    JOB_LOCK_MS: String(options.jobLockMs ?? PATIENT_LOCK_MS),
    ...options.env,
  };
  const parts = new Set<Part>();
  const start = (service: 'api' | 'registry' | 'worker', name: string, changes: NodeJS.ProcessEnv = {}): Part => {
    const program = SERVICE_PROGRAMS.find((candidate) => candidate.name === service)?.program ?? '';
    const messages: string[] = [];
    const onLine = (line: string) => messages.push(messageIn(line));
    const logFile = path.join(folder, `logs/${name}.log`);
    const managed = startProcess({ name, program, env: { ...env, ...changes }, logFile, onLine });
    const part = Object.assign(managed, {
      messages,
      signal: (signal: NodeJS.Signals) => void process.kill(managed.pid, signal),
    });
    parts.add(part);
    return part;
  };
  const startServing = async (service: 'api' | 'registry', url: string) => {
    const part = start(service, service);
    await eventually(`the ${service} is ready`, () => {
      if (!part.running) throw new Error(`the ${service} ended: ${part.tail()}`);
      return answersOk(`${url}/ready`);
    });
    return part;
  };
  const processes = async (program: string) =>
    (await processesWith(stand)).filter((candidate) => candidate.program.endsWith(program));
  const client = createClient({ baseUrl: apiUrl });
  const watch = watchForIncompleteFiles({ dataDir, client });
  let strikes = 0;

  return {
    folder,
    dataDir,
    client,
    apiUrl,
    registryUrl,
    redis,
    watch,
    startApi: () => startServing('api', apiUrl),
    startRegistry: () => startServing('registry', registryUrl),
    async startWorker(name, { env: changes = {}, redisPort, awaitReady = true } = {}) {
      const url = redisPort === undefined ? {} : { REDIS_URL: `redis://127.0.0.1:${redisPort}` };
      const part = start('worker', name, { WORKER_NAME: name, ...url, ...changes });
      if (!awaitReady) return part;
      await eventually(`the worker ${name} is ready`, () => {
        if (!part.running) throw new Error(`the worker ended: ${part.tail()}`);
        return part.messages.includes('ready for jobs');
      });
      return part;
    },
    processes,
    trainer: () => eventually('there is a trainer', async () => (await processes('trainer/child-main.js')).at(-1)),
    async plan(strike) {
      const struck = path.join(folder, `struck-${++strikes}`);
      await writeFile(planFile, JSON.stringify({ skip: 0, signal: 'SIGKILL', isRepeated: false, ...strike, struck }));
      return {
        struck: async () => void (await eventually(`struck ${JSON.stringify(strike)}`, () => existsSync(struck))),
      };
    },
    holdAt: gate.holdAt,
    release: gate.release,
    shiftClock: (byMs) => writeFile(clockFile, String(byMs)),
    async removeTokens() {
      const tokens = path.join(dataDir, 'tokens');
      for (const name of await readdir(tokens)) await rm(path.join(tokens, name), { recursive: true });
    },
    async close() {
      const seen = await watch.end();
      for (const part of parts) if (part.running) part.signal('SIGTERM');
      await Promise.all([...parts].map((part) => part.running && part.exited));
      await redis.stop();
      const orphans = await eventually('no process outlives the stand', async () => {
        const left = await processesWith(stand);
        return left.length === 0 ? [] : undefined;
      }).catch(async () => await processesWith(stand));
      for (const part of parts) await part.stop(1_000);
      for (const { pid } of orphans) process.kill(pid, 'SIGKILL');
      if (seen.length > 0) throw new Error(`incomplete files were visible:\n${seen.join('\n')}\nLogs: ${folder}`);
      if (orphans.length > 0) throw new Error(`orphans: ${JSON.stringify(orphans)}`);
      if (process.env.KEEP_FAULT_STANDS !== 'true') await rm(folder, { recursive: true, force: true });
    },
  };
}

function messageIn(line: string): string {
  try {
    return String(JSON.parse(line).msg);
  } catch {
    return line;
  }
}
