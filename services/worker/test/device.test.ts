import { fork } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { openWorkerStarts } from '@lorasmith/queue';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeDataFolder } from '../../../test/data-folder.js';
import { startRealRedis } from '../../../test/real-redis.js';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { gpuDeviceFiles, lookForGpu } from '../src/device/gpu-probes.js';

// The compiled worker with the real engine, on a machine without a GPU.

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const hasGpu = (await gpuDeviceFiles()).length > 0;
if (hasGpu) console.log('Skipped, since this machine has a GPU: the tests of a worker that finds none.');

let folder: string;

beforeEach(async () => {
  await access(PROGRAM).catch(() => expect.fail('The worker is not compiled: run `pnpm build` first.'));
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-device-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

function startWorkerProcess(settings: NodeJS.ProcessEnv) {
  const worker = fork(PROGRAM, [], {
    execArgv: [],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...process.env, DATA_DIR: folder, MODELS_DIR: folder, ...settings },
  });
  const written = { stdout: '', stderr: '' };
  worker.stdout?.on('data', (chunk: Buffer) => {
    written.stdout += chunk;
  });
  worker.stderr?.on('data', (chunk: Buffer) => {
    written.stderr += chunk;
  });
  return { worker, written };
}

test.skipIf(hasGpu)('a worker that must have a GPU says what is missing and ends with its own exit code', async () => {
  // Nothing listens there, because the worker ends before it connects.
  const { worker, written } = startWorkerProcess({ DEVICE: 'gpu', REDIS_URL: 'redis://127.0.0.1:1' });
  const [code] = await once(worker, 'close');
  expect(code).toBe(69);
  expect(written.stderr).toMatch(
    /^The engine sees no GPU, and DEVICE is gpu\.\n(?: {2}installation: .*\n)? {2}driver: /m,
  );
  expect(written.stderr).toContain('libcuda.so.1');
  expect(written.stderr).toContain('DEVICE=cpu trains on the CPU instead.');
});

test.runIf(HAS_ALL_CASES && !hasGpu)(
  'a worker by itself takes the CPU, says so, and answers a supervisor',
  async () => {
    const redis = await startRealRedis();
    const port = await freePort();
    await makeDataFolder(folder);
    const { worker, written } = startWorkerProcess({
      REDIS_URL: redis.url,
      REDIS_PREFIX: redis.prefix,
      WORKER_HEALTH_PORT: String(port),
    });
    const client = new Redis(redis.url);
    const starts = openWorkerStarts({ redis: client, prefix: redis.prefix });
    const phase = () => starts.nearest(Date.now());
    try {
      // The worker measures its machine first, which waiting jobs say.
      await expect.poll(phase, { timeout: 60_000, interval: 20 }).toBe('measuring');
      await expect.poll(() => ready(port), { timeout: 200_000, interval: 200 }).toBe(200);
      await expect.poll(phase).toBeNull();
      expect(written.stdout).toContain('training on the CPU: this machine has no NVIDIA GPU');
      // A supervisor relies on a graceful shutdown.
      worker.kill('SIGTERM');
      expect((await once(worker, 'exit'))[0]).toBe(0);
    } finally {
      worker.kill('SIGKILL');
      await client.quit();
      await redis.stop();
    }
  },
);

test.each([
  ['throw', 'The search failed; the log of the service says why. Error: libtensorflow is missing'],
  ['crash', 'Its probe ended with exit code 1.'],
])('an engine that cannot be loaded (%s) is explained', async (how, why) => {
  const probe = fileURLToPath(new URL('fixtures/broken-gpu-probe.mjs', import.meta.url));
  await expect(lookForGpu(probe, { ...process.env, HOW: how })).rejects.toThrow(`The engine cannot be loaded. ${why}`);
});

test('an unknown device is refused before anything is opened', async () => {
  const { worker, written } = startWorkerProcess({ DEVICE: 'cuda' });
  const [code] = await once(worker, 'close');
  expect(code).toBe(78);
  expect(written.stderr).toContain('DEVICE "cuda"');
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function ready(port: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/ready`).catch(() => null);
  await response?.body?.cancel();
  return response?.status ?? 0;
}
