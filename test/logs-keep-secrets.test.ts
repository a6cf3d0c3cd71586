import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import type { Job } from '../packages/contracts/src/index.js';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { makeDataFolder } from './data-folder.js';
import { type HubServer, startHubServer } from './hub-server.js';
import { writeTinyLlama } from './tiny-llama.js';

// User data and secrets must not appear in any log of a real stack, even at the log level `trace`.

const KEYS = fileURLToPath(new URL('../services/api/dist/keys.js', import.meta.url));
/** A word in rows of datasets. No message contains it. */
const TEXT = 'ZQXTRAININGTEXT';
/** A token without the beginning by which logs know one. */
const HUB_TOKEN = 'ZQXtokenOfTheHub';
const IN_ADDRESS = 'ZQXtokenInAnAddress';
const SECRETS_KEY = 'ZQXsecretsKey'.repeat(3);
const S3_SECRET = 'ZQXsecretOfBuckets';

let folder: string;
let stack: Awaited<ReturnType<typeof startStack>>;
let token: string;
let redisPassword: string;
let hub: HubServer;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-logs-'));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  // The stack's own Redis has a password, which no log may contain.
  hub = await startHubServer();
  const { REDIS_URL: _, ...rest } = process.env;
  stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: {
      ...rest,
      LOG_LEVEL: 'trace',
      SECRETS_KEY,
      HF_ENDPOINT: hub.url,
      DELIVERY_BUCKETS: 'models',
      DELIVERY_S3_ENDPOINT: hub.url,
      DELIVERY_S3_ACCESS_KEY_ID: 'an-access-key',
      DELIVERY_S3_SECRET_ACCESS_KEY: S3_SECRET,
    },
  });
  redisPassword = decodeURIComponent(new URL(stack.redisUrl).password);
  const args = [KEYS, 'create', '--name', 'a name', '--role', 'admin', '--json'];
  const made = execFileSync(process.execPath, args, { env: { ...rest, REDIS_URL: stack.redisUrl }, encoding: 'utf8' });
  token = (JSON.parse(made) as { token: string }).token;
});
afterAll(async () => {
  await stack?.stop();
  await hub?.stop();
  await rm(folder, { recursive: true, force: true });
});

test('no log contains training text, API keys or the password of Redis', async () => {
  const client = createClient({ baseUrl: stack.apiUrl, apiKey: token });
  const rows = (count: number, more = '') =>
    Array.from({ length: count }, (_, i) => `${JSON.stringify({ text: `${TEXT} ${i}${more}` })}\n`).join('');
  const good = await client.uploadDataset({ text: rows(12) }, { baseModel: 'tiny-llama' });
  const long = await client.uploadDataset({ text: rows(3, ` ${'a b c '.repeat(200)}`) });

  // Lines with every fault that the reader detects, and bodies that are not JSON.
  const bad = [`{"text": "${TEXT}`, `{"text": ${TEXT}}`, `{"${TEXT}": 1}`, `["${TEXT}"]`, `{"prompt": "${TEXT}"}`].join(
    '\n',
  );
  await expect(client.uploadDataset({ text: bad })).rejects.toMatchObject({ code: 'invalid_dataset' });
  const post = async (body: string) => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
    return (await fetch(`${stack.apiUrl}/jobs`, { method: 'POST', headers, body })).status;
  };
  expect(await post(`{"base_model": "${TEXT}`)).toBe(400);
  // API keys in wrong places.
  for (const url of [`/jobs?api_key=${token}`, `/jobs/${token}`, `/${token}`, `/adapters/${token}`]) {
    const answer = await fetch(`${stack.apiUrl}${url}`, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBeGreaterThanOrEqual(400);
  }
  const wrong = await fetch(`${stack.apiUrl}/jobs`, { headers: { authorization: `Basic ${token}` } });
  expect(wrong.status).toBe(401);

  const request = (dataset: string, training = {}) => ({
    base_model: 'tiny-llama',
    dataset,
    lora: { r: 2 },
    training: { epochs: 1, batch_size: 4, precision: 'float32' as const, ...training },
  });
  const refused = client.dryRun(request(long.id, { max_seq_length: 32 }));
  await expect(refused).rejects.toMatchObject({ code: 'row_too_long' });
  const { id } = await client.createJob(request(good.id));
  const job = await until(() => client.getJob(id), hasEnded);
  expect(job.status).toBe('succeeded');
  // A job that fails in the worker because its trainer dies.
  const loss = await client.createJob(request(good.id, { learning_rate: 10, max_steps: 40, max_grad_norm: null }));
  await until(() => client.getJob(loss.id), hasEnded);
  await client.manifest(job.adapter ?? '');
  // A token in the right and in wrong places, with a hub that refuses it, and a bucket that is none.
  await client.setHubToken(HUB_TOKEN);
  await expect(client.setHubToken(`${HUB_TOKEN} `)).rejects.toMatchObject({ code: 'invalid_request' });
  await fetch(`${stack.apiUrl}/hub-token?token=hf_${IN_ADDRESS}`, { headers: { authorization: `Bearer ${token}` } });
  const toHub = await client.deliver(job.adapter ?? '', { kind: 'hub', repository: 'org/x' });
  expect(await client.waitForDelivery(toHub.id)).toMatchObject({ error: { code: 'delivery_refused' } });
  const toBucket = await client.deliver(job.adapter ?? '', { kind: 's3', bucket: 'models', prefix: 'x' });
  await until(
    () => client.getDelivery(toBucket.id),
    ({ error }) => error !== null,
  );

  const logs = await logsOf(stack.logsDir);
  const names = ['api.log', 'puller.log', 'redis.log', 'registry.log', 'worker.log'];
  expect(logs.map(({ name }) => name).sort()).toEqual(names);
  for (const { name, text } of logs) {
    // Each log has content.
    expect([name, text.length > 100]).toEqual([name, true]);
    for (const [what, secret] of [
      ['training text', TEXT],
      ['an API key', token.slice(-43)],
      ['the password of Redis', redisPassword],
      ['the token of the hub', HUB_TOKEN],
      ['a token in an address', IN_ADDRESS],
      ['the key of secrets', SECRETS_KEY],
      ['the secret of buckets', S3_SECRET],
    ] as const) {
      const at = text.indexOf(secret);
      const line = at < 0 ? '' : text.slice(text.lastIndexOf('\n', at) + 1, text.indexOf('\n', at));
      expect(`${name} has ${what}: ${line}`).toBe(`${name} has ${what}: `);
    }
  }
}, 400_000);

const hasEnded = ({ status }: Job) => ['succeeded', 'failed', 'cancelled'].includes(status);

async function until<Thing>(look: () => Promise<Thing>, enough: (thing: Thing) => boolean): Promise<Thing> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const thing = await look();
    if (enough(thing)) return thing;
    if (Date.now() > deadline) throw new Error(`it did not end: ${JSON.stringify(thing)}`);
    await sleep(100);
  }
}

async function logsOf(logsDir: string): Promise<{ name: string; text: string }[]> {
  return await Promise.all(
    (await readdir(logsDir)).map(async (name) => ({ name, text: await readFile(path.join(logsDir, name), 'utf8') })),
  );
}
