import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKey } from '../api-keys.js';
import { type HostileStack, startHostileStack } from '../hostile/hostile-stack.js';
import { runSchemathesis } from './run-schemathesis.js';

// Schemathesis generates valid and invalid requests from the OpenAPI document, single ones and chains, and checks every
// answer: no 5xx, only documented statuses and content types, bodies and headers that match the schemas, and no deleted
// resource that can still be read. test/hostile checks the answer to each kind of invalid request.

const NO_LIMIT = '1000000';

let stack: HostileStack;

beforeAll(async () => {
  stack = await startHostileStack({
    KEY_REQUESTS_PER_MINUTE: NO_LIMIT,
    KEY_ACTIVE_JOBS: NO_LIMIT,
    QUEUE_MAX_JOBS: NO_LIMIT,
    EVENT_HEARTBEAT_MS: '1000',
  });
});

afterAll(async () => {
  await stack?.stop();
});

test('finds no fault without an API key', async () => {
  const { requests, failed, report } = await runSchemathesis(stack, {});
  console.log(`${requests} requests without a key`);
  expect(failed, report).toBe(false);
  expect(stack.crashed()).toBeNull();
});

test('finds no fault with an API key of the role train', async () => {
  const token = await createKey(stack, 'train');
  const { requests, failed, report } = await runSchemathesis(stack, { authorization: `Bearer ${token}` });
  console.log(`${requests} requests with a key`);
  expect(failed, report).toBe(false);
  expect(stack.crashed()).toBeNull();
  const logs = await Promise.all(
    ['api', 'registry'].map((name) => readFile(path.join(stack.root, `data/logs/${name}.log`), 'utf8')),
  );
  expect(logs.join('').includes(token)).toBe(false);
});
