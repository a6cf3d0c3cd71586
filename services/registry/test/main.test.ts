import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { serviceSecretHeaders } from '@lorasmith/service-kit';
import { openBundleStore, readFolderToken } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { adapterId, addBaseModel, publishReferenceAdapter } from './published-adapter.js';

// The compiled process, as it is deployed.
const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url));

let root: string;
let service: ChildProcess | undefined;
beforeEach(async () => {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is not built: run "pnpm build" first`);
  root = await mkdtemp(join(tmpdir(), 'registry-main-'));
  await mkdir(join(root, 'models'));
});
afterEach(async () => {
  service?.kill('SIGKILL');
  await rm(root, { recursive: true });
});

function start(environment: Record<string, string> = {}): ChildProcess {
  service = spawn(process.execPath, [MAIN], {
    env: {
      PATH: process.env.PATH,
      DATA_DIR: join(root, 'data'),
      MODELS_DIR: join(root, 'models'),
      REGISTRY_PORT: '0',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return service;
}

async function addressOf({ stdout }: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: stdout! })) {
    const address = /http:\/\/[\d.]+:\d+/.exec(line);
    if (address !== null) return address[0];
  }
  throw new Error('it ended without listening');
}

test('the registry serves published adapters and merged models, and shuts down gracefully on SIGTERM', async () => {
  const adapters = await openBundleStore({ root: join(root, 'data'), kind: 'adapters' });
  await addBaseModel(join(root, 'models'), 'llama-tied');
  await publishReferenceAdapter(adapters, { id: adapterId(1), name: 'llama-tied' });
  const child = start();
  const url = await addressOf(child);
  const headers = serviceSecretHeaders(await readFolderToken(join(root, 'data')));
  for (const path of ['/live', '/ready', '/adapters', `/adapters/${adapterId(1)}?weights=merged`]) {
    const response = await fetch(`${url}${path}`, { headers });
    expect([path, response.status]).toEqual([path, 200]);
    await response.arrayBuffer();
  }
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await exit).toEqual([0, null]);
});

test('without its models folder the registry reports that it is not ready', async () => {
  await rm(join(root, 'models'), { recursive: true });
  const url = await addressOf(start());
  const response = await fetch(`${url}/ready`);
  expect(response.status).toBe(503);
  expect(await response.text()).toContain('models');
});

test('an invalid environment stops it before it listens', async () => {
  const child = start({ MERGED_CACHE_BYTES: 'much' });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  expect(await once(child, 'close')).toEqual([78, null]);
  expect(stderr).toMatch(/MERGED_CACHE_BYTES "much".*for instance/);
});
