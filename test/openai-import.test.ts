import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { makeDataFolder } from './data-folder.js';
import { chatRows, type OpenaiServer, openaiJob, startOpenaiServer } from './openai-server.js';
import { redisTexts } from './redis-texts.js';
import { writeTinyLlama } from './tiny-llama.js';

// The way from OpenAI to an adapter of one's own, with the complete service and the command `lora` as a process: plans, files, jobs, training,
// the answers of the old model. Then the same with our own service as the source, and with a folder. The key is nowhere afterwards.

const LORA = fileURLToPath(new URL('../packages/client/dist/lora.js', import.meta.url));
const KEYS = fileURLToPath(new URL('../services/api/dist/keys.js', import.meta.url));
const SECRET = 'sk-proj-ZQXSECRET0123456789';
const OLD = 'ft:gpt-4o-mini-2024-07-18:acme:support:1234';
const MODEL = 'tiny-llama';

let folder: string;
let openai: OpenaiServer;
let stack: Awaited<ReturnType<typeof startStack>>;
let token: string;
const printed: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-import-'));
  openai = await startOpenaiServer();
  openai.keys = new Set([SECRET]);
  openai.files.set('file-train', { filename: 'support.jsonl', content: chatRows(16) });
  openai.files.set('file-valid', { filename: 'support-valid.jsonl', content: chatRows(4, 'held out') });
  openai.jobs = [openaiJob('ftjob-1234', { validation_file: 'file-valid' })];
  openai.models.set(OLD, () => ({ content: 'as ever' }));
  await makeDataFolder(path.join(folder, 'data'));
  await writeTinyLlama(path.join(folder, 'models', MODEL));
  const { REDIS_URL: _, ...rest } = process.env;
  stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: { ...rest, LOG_LEVEL: 'trace', IMPORT_OPENAI_URLS: openai.baseUrl },
  });
  const args = [KEYS, 'create', '--name', 'a name', '--role', 'admin', '--json'];
  const made = execFileSync(process.execPath, args, { env: { ...rest, REDIS_URL: stack.redisUrl }, encoding: 'utf8' });
  token = (JSON.parse(made) as { token: string }).token;
}, 120_000);
afterAll(async () => {
  await stack?.stop();
  await openai?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Runs the command; resolves with what it printed, also where it failed. */
async function lora(args: string[], env: Record<string, string> = {}): Promise<{ code: number; output: string }> {
  const { OPENAI_API_KEY: _, OPENAI_BASE_URL: __, ...rest } = process.env;
  const environment = { ...rest, LORASMITH_URL: stack.apiUrl, LORASMITH_API_KEY: token, ...env };
  const run = promisify(execFile)(process.execPath, [LORA, ...args], { env: environment });
  const ended = await run.then(
    ({ stdout, stderr }) => ({ code: 0, output: stdout + stderr }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      code: error.code,
      output: error.stdout + error.stderr,
    }),
  );
  printed.push(ended.output);
  return ended;
}

const imported = (args: string[], env = { OPENAI_API_KEY: SECRET, OPENAI_BASE_URL: openai.baseUrl }) =>
  lora(['import-openai', '--base-model', MODEL, ...args], env);
const client = () => createClient({ baseUrl: stack.apiUrl, apiKey: token });

test('a job of OpenAI becomes an adapter here', async () => {
  const plan = await imported(['--dry-run']);
  expect(plan).toMatchObject({ code: 0 });
  expect(plan.output).toContain(
    'ftjob-1234  ft:gpt-4o-mini-2024-07-18:acme:support:1234\n  file-train (support.jsonl, ',
  );
  expect(plan.output).toContain(
    '  differs: It was trained on gpt-4o-mini-2024-07-18; here it is trained on tiny-llama.\n',
  );
  expect(plan.output).toMatch(/1 job can be posted\n$/);
  expect((await client().listJobs()).data).toEqual([]);

  const done = await imported(['--yes', '--record-answers', '3']);
  expect(done).toMatchObject({ code: 0 });
  expect(done.output).toMatch(/ftjob-1234: posted as job_\w+, the answers of its model are ds_\w+\n1 job posted\n$/);
  const [job] = (await client().listJobs({ tag: 'ftjob-1234' })).data;
  const trained = await client().waitForJob(job!.id);
  expect(trained).toMatchObject({ status: 'succeeded', name: 'support' });
  // The answers can be what an adapter is measured on.
  const [answers] = (await client().listDatasets({ tag: 'answers-ftjob-1234' })).data;
  const request = { base_model: MODEL, dataset: job!.dataset, validation: { dataset: answers!.id } };
  expect(await client().dryRun(request)).toMatchObject({ rows: { training: 16, validation: 3 } });

  const again = await imported(['--yes']);
  expect(again.output).toMatch(new RegExp(`imported before as ${job!.id}[\\s\\S]*0 jobs posted, 1 imported before\n$`));
}, 240_000);

test('a job of another Lorasmith, whose wire is the same, is imported by its id', async () => {
  const [job] = (await client().listJobs({ tag: 'ftjob-1234' })).data;
  const own = { OPENAI_API_KEY: token, OPENAI_BASE_URL: `${stack.apiUrl}/v1` };
  const first = await imported(['--yes', '--job', job!.id], own);
  expect(first.output).toMatch(/posted as job_\w+\n1 job posted\n$/);
  const [twin] = (await client().listJobs({ tag: job!.id })).data;
  expect(twin).toMatchObject({
    dataset: job!.dataset,
    validation: job!.validation,
    training: { seed: job!.training.seed },
  });
  expect(twin!.training).toMatchObject({ epochs: 3, batch_size: 1, learning_rate: 1.8e-4 });
}, 120_000);

test('a folder of files needs no key', async () => {
  const files = path.join(folder, 'files');
  await makeDataFolder(files);
  await writeFile(path.join(files, 'tone.jsonl'), chatRows(20, 'tone'));
  const done = await imported(['--yes', '--folder', files], {} as never);
  expect(done).toMatchObject({ code: 0 });
  expect(done.output).toMatch(/rows-\w{24}: posted as job_\w+\n1 job posted\n$/);
  expect((await client().listJobs({ name: 'tone' })).data).toHaveLength(1);
}, 120_000);

test('says what is missing or wrong, in one line', async () => {
  const oneLine = async (args: string[], env: Record<string, string>, text: RegExp) => {
    const { code, output } = await imported(args, env as never);
    expect([code, output.trimEnd().split('\n').length]).toEqual([1, 1]);
    expect(output).toMatch(text);
  };
  await oneLine(
    ['--yes'],
    {},
    /^invalid_request: lora import-openai needs a key of OpenAI in OPENAI_API_KEY, or --folder/,
  );
  await oneLine([], { OPENAI_API_KEY: SECRET }, /^invalid_request: There is no terminal to ask .* with --dry-run/);
  await oneLine(
    ['--dry-run'],
    { OPENAI_API_KEY: 'sk-wrong', OPENAI_BASE_URL: openai.baseUrl },
    /^openai_access_denied: http:\S+ refuses the key \(401\): it is wrong, or was revoked\.\n$/,
  );
  await oneLine(
    ['--dry-run', '--record-answers', 'x'],
    { OPENAI_API_KEY: SECRET },
    /^invalid_request: --record-answers must be/,
  );
}, 120_000);

test('the key is in no log, no value of Redis, no file and nothing that was printed', async () => {
  const request = { base_model: MODEL, api_key: SECRET, base_url: openai.baseUrl };
  const events = [];
  for await (const event of client().importFromOpenai(request)) events.push(event);
  expect(events.at(-1)).toMatchObject({ type: 'import-ended', imported: 1 });
  // Refused bodies, and a service that repeats the key in its errors.
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const post = async (body: string) => {
    const answer = await fetch(`${stack.apiUrl}/imports/openai`, { method: 'POST', headers, body });
    printed.push(await answer.text());
    return answer.status;
  };
  expect(await post(`{"api_key": "${SECRET}" x}`)).toBe(400);
  expect(await post(JSON.stringify({ ...request, api_key: `${SECRET} ` }))).toBe(400);
  expect(await post(JSON.stringify({ ...request, base_model: 'none' }))).toBe(404);
  for (const status of [401, 403, 404, 500]) {
    openai.onRequest = () => ({ status, message: `no: ${SECRET}`, headers: { 'retry-after-ms': '1' } });
    expect(await post(JSON.stringify(request))).toBeGreaterThanOrEqual(400);
  }
  openai.onRequest = () => null;

  const logs = await textsIn(stack.logsDir);
  expect(logs.some(({ text }) => text.includes('/imports/openai'))).toBe(true);
  const redis = new Redis(stack.redisUrl);
  const values = await redisTexts(redis, '*');
  await redis.quit();
  expect(values.length).toBeGreaterThan(10);
  const inRedis = values.map((text) => ({ name: text.split(' ', 1)[0], text }));
  const texts = [...logs, ...(await textsIn(path.join(folder, 'data'))), ...inRedis];
  const found = texts.filter(({ text }) => text.includes('ZQXSECRET')).map(({ name }) => name);
  expect([...found, ...printed.filter((text) => text.includes('ZQXSECRET'))]).toEqual([]);
}, 120_000);

async function textsIn(root: string): Promise<{ name: string; text: string }[]> {
  const names = await readdir(root, { recursive: true });
  return await Promise.all(
    names.map(async (name) => ({ name, text: await readFile(path.join(root, name), 'latin1').catch(() => '') })),
  );
}
