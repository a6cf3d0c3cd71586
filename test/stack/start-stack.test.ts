import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLogger } from '../../packages/service-kit/src/logger.js';
import { consoleReport, startStack } from '../../scripts/stack/start-stack.mjs';
import { absentRedisUrl } from '../real-redis.js';

/** Redis and the processes are real. The services are small programs, some of which misbehave. */
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));
const api = (name: string, stopTimeoutMs = 5_000) => ({
  name: 'api',
  program: fixture(name),
  readyUrl: ({ apiUrl }: { apiUrl: string }) => `${apiUrl}/ready`,
  stopTimeoutMs,
});
const worker = (name: string, stopTimeoutMs = 5_000) => ({
  name: 'worker',
  program: fixture(name),
  readyUrl: () => undefined,
  stopTimeoutMs,
});

let dataDir: string;
let env: NodeJS.ProcessEnv;
let states: string[];
const onEvent = (event: { part: string; state?: string; line?: string }) => {
  if (event.state) states.push(`${event.part} ${event.state}`);
};

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-stack-'));
  states = [];
  // Each stack here starts its own Redis.
  const { REDIS_URL: _, ...rest } = process.env;
  env = rest;
});

afterEach(async () => {
  await rm(dataDir, { recursive: true, force: true });
});

test('starts Redis, then the services with their addresses, and stops them in order', async () => {
  const stack = await startStack({
    dataDir,
    modelsDir: '/models',
    env,
    onEvent,
    services: [worker('idle-service'), api('ready-service')],
  });
  const seen = (await (await fetch(stack.apiUrl)).json()) as Record<string, string>;
  expect(seen).toMatchObject({
    DATA_DIR: dataDir,
    MODELS_DIR: '/models',
    REDIS_URL: stack.redisUrl,
    REGISTRY_URL: stack.registryUrl,
  });
  await stack.stop();
  expect(states).toEqual([
    'redis starting',
    'redis ready',
    'worker starting',
    'api starting',
    'api ready',
    'api stopping',
    'api stopped',
    'worker stopping',
    'worker stopped',
    'redis stopping',
    'redis stopped',
  ]);
  expect(await readFile(path.join(dataDir, 'logs/api.log'), 'utf8')).toContain('stopping: SIGTERM');
  expect(await refusesConnections(stack.redisUrl)).toBe(true);
  expect(existsSync(path.join(dataDir, 'stack.lock'))).toBe(false);
});

test('the embedded Redis persists its data, never evicts, and requires a password', async () => {
  const first = await startStack({ dataDir, modelsDir: dataDir, env, services: [] });
  const redis = new Redis(first.redisUrl);
  await redis.set('job', 'queued');
  expect(await redis.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction']);
  expect(await redis.config('GET', 'appendonly')).toEqual(['appendonly', 'yes']);
  await redis.quit();
  const withoutPassword = new Redis(first.redisUrl.replace(/:[^:@]*@/, ''), { protocol: 2 });
  withoutPassword.on('error', () => undefined);
  await expect(withoutPassword.get('job')).rejects.toThrow(/NOAUTH/);
  withoutPassword.disconnect();
  expect((await stat(path.join(dataDir, 'redis/redis.conf'))).mode & 0o077).toBe(0);
  await first.stop();

  const second = await startStack({ dataDir, modelsDir: dataDir, env, services: [] });
  const again = new Redis(second.redisUrl);
  expect(await again.get('job')).toBe('queued');
  await again.quit();
  await second.stop();
});

test('a service that crashes at its start is named with its last output, and everything is stopped again', async () => {
  const starting = startStack({ dataDir, modelsDir: dataDir, env, onEvent, services: [api('crashing-service')] });
  await expect(starting).rejects.toMatchObject({
    message: 'api exited with 1',
    output: expect.stringMatching(/about to read the settings[\s\S]*the settings are unreadable/),
  });
  expect(states.at(-1)).toBe('redis stopped');
});

test('a service that crashes later is reported, and all others are stopped', async () => {
  const services = [worker('idle-service'), api('crash-on-request-service')];
  const stack = await startStack({ dataDir, modelsDir: dataDir, env, services });
  // If it is stopped before it runs, it writes no log.
  const idle = await pidInLog('worker');
  await fetch(`${stack.apiUrl}/crash`).catch(() => undefined);
  expect(await stack.failed).toMatchObject({
    message: 'api exited with 1',
    output: expect.stringContaining('crashed as asked'),
  });
  expect(isRunning(idle)).toBe(false);
  expect(await refusesConnections(stack.redisUrl)).toBe(true);
});

test('a service that ignores SIGTERM is killed after its time limit, with its children', async () => {
  const services = [worker('stubborn-service', 300)];
  const stack = await startStack({ dataDir, modelsDir: dataDir, env, services });
  const child = await pidInLog('worker');
  // Without the limit it would not return.
  await stack.stop();
  await expect.poll(() => isRunning(child)).toBe(false);
});

test('no process outlives a stack whose process was killed', async () => {
  const stackProcess = spawn(process.execPath, [fixture('run-stack'), dataDir, fixture('idle-service')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [printed] = (await once(stackProcess.stdout, 'data')) as [Buffer];
  const { redisUrl } = JSON.parse(printed.toString()) as { redisUrl: string };
  const service = await pidInLog('worker');
  expect(isRunning(service)).toBe(true);
  stackProcess.kill('SIGKILL');
  await once(stackProcess, 'exit');
  await expect.poll(() => isRunning(service)).toBe(false);
  await expect.poll(() => refusesConnections(redisUrl)).toBe(true);

  // Its lock names a process that has ended, so the next stack can start.
  const next = await startStack({ dataDir, modelsDir: dataDir, env, services: [] });
  await next.stop();
});

test('a second stack on the same data folder is refused while the first runs', async () => {
  const first = await startStack({ dataDir, modelsDir: dataDir, env, services: [] });
  await expect(startStack({ dataDir, modelsDir: dataDir, env, services: [] })).rejects.toThrow(
    `${dataDir} is in use by another Lorasmith stack (process ${process.pid})`,
  );
  await first.stop();
});

test('a port in use is reported before any service starts', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const starting = startStack({
    dataDir,
    modelsDir: dataDir,
    env,
    apiPort: port,
    onEvent,
    services: [api('ready-service')],
  });
  await expect(starting).rejects.toMatchObject({
    message: `port ${port} of 127.0.0.1 is in use by another program`,
    remedy: expect.stringContaining('API_PORT'),
  });
  expect(states).not.toContain('api starting');
  other.close();
});

test('what keeps jobs from starting is named until it is gone', async () => {
  const reporting = { ...worker('hindered-service'), reportsHindrance: true };
  const readyUrl = ({ registryUrl }: { registryUrl: string }) => registryUrl;
  const registry = { ...worker('ready-registry'), name: 'registry', readyUrl };
  const stack = await startStack({
    dataDir,
    modelsDir: dataDir,
    env,
    onEvent,
    services: [registry, reporting, api('full-service')],
  });
  let isWorking = false;
  void stack.working.then(() => {
    isWorking = true;
  });
  expect(stack.missing()).toContain('api: data: the disk of DATA_DIR is full');
  await expect.poll(() => stack.missing()).toContain('worker: it is measuring its machine');
  expect([isWorking, states.includes('registry ready'), states.includes('worker ready')]).toEqual([false, true, false]);
  await writeFile(path.join(dataDir, 'measured'), '');
  await expect.poll(() => states).toContain('worker ready');
  await fetch(`${stack.apiUrl}/free`);
  await stack.working;
  expect(stack.missing()).toEqual([]);
  expect(states).toContain('api ready');
  await stack.stop();
});

test('a Redis that is not there is named before any service starts, without its password', async () => {
  const url = (await absentRedisUrl()).replace('//', '//:secret@');
  const starting = startStack({
    dataDir,
    modelsDir: dataDir,
    env,
    onEvent,
    redis: { url },
    services: [api('ready-service')],
  });
  await expect(starting).rejects.toMatchObject({
    message: `Redis at ${url.replace(':secret@', '')} cannot be reached (ECONNREFUSED)`,
    remedy: expect.stringContaining('REDIS_URL'),
  });
  expect(states).toEqual([]);
});

test('an interruption during the start stops all started parts', async () => {
  const interruption = new AbortController();
  const never = { ...api('idle-service'), name: 'api' };
  const starting = startStack({
    dataDir,
    modelsDir: dataDir,
    env,
    signal: interruption.signal,
    onEvent: (event) => {
      onEvent(event);
      if (states.at(-1) === 'api starting') interruption.abort();
    },
    services: [never],
  });
  await expect(starting).rejects.toThrow(/abort/i);
  expect(states.at(-1)).toBe('redis stopped');
});

/** The process id that a fixture writes as the first line of its log. */
async function pidInLog(part: string): Promise<number> {
  let log = '';
  const read = async () => {
    log = await readFile(path.join(dataDir, `logs/${part}.log`), 'utf8').catch(() => '');
    return log;
  };
  await expect.poll(read).toMatch(/^\d+\n/);
  return Number.parseInt(log, 10);
}

/** An ended process may remain as a zombie (state Z) until its new parent collects it. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function refusesConnections(redisUrl: string): Promise<boolean> {
  const redis = new Redis(redisUrl, { lazyConnect: true, retryStrategy: () => null });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return false;
  } catch {
    return true;
  } finally {
    redis.disconnect();
  }
}

test('warnings and errors of a service are shown on the terminal, lower levels only in its log', () => {
  const shown: string[] = [];
  const report = consoleReport(
    new Writable({
      write(chunk, _encoding, done) {
        shown.push(String(chunk));
        done();
      },
    }),
  );
  const lines: string[] = [];
  const logger = createLogger({
    service: 'api',
    level: 'debug',
    destination: { write: (line: string) => lines.push(line) },
  });
  logger.info('started');
  logger.warn('slow');
  logger.error({ err: new Error('no such host') }, 'the registry is unavailable');
  report({ part: 'api', state: 'ready' });
  for (const line of lines) report({ part: 'api', line });
  report({ part: 'worker', line: 'not JSON' });
  expect(shown).toEqual([
    'api      ready\n',
    'api      warning: slow\n',
    'api      error: the registry is unavailable: no such host\n',
    'worker   not JSON\n',
  ]);
});
