import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import type { Job } from '../packages/contracts/src/index.js';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';

// The complete product from the operator's side: one job in the logs, metrics and traces of all services, and a restore from
// a backup.

interface Stack {
  apiUrl: string;
  registryUrl: string;
  logsDir: string;
  stop(): Promise<void>;
}
interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  service: string;
  attributes: { key: string; value: { stringValue?: string } }[];
}

const ROWS = Array.from({ length: 8 }, (_, i) => `{"prompt":"Say ${i}.","completion":"It is ${i}."}\n`).join('');
const REQUEST_ID = 'an-id-of-the-caller';

let folder: string;
let dataDir: string;
let collector: Server;
let spans: Span[];
let stack: Stack | undefined;
let workerPort: number;
let job: Job;
/** All data before the stack was stopped. */
let before: string;
let parts: { startStack: (options: object) => Promise<Stack>; availablePort: (...args: unknown[]) => Promise<number> };

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-operating-'));
  dataDir = path.join(folder, 'data');
  await makeDataFolder(dataDir);
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  spans = [];
  const receive = async (request: IncomingMessage, response: ServerResponse) => {
    const { resourceSpans } = (await json(request)) as {
      resourceSpans: {
        resource: { attributes: Span['attributes'] };
        scopeSpans: { spans: Omit<Span, 'service'>[] }[];
      }[];
    };
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? '';
      for (const { spans: sent } of scopeSpans) spans.push(...sent.map((span) => ({ ...span, service })));
    }
    response.setHeader('content-type', 'application/json').end('{}');
  };
  collector = createServer((request, response) => void receive(request, response)).listen(0, '127.0.0.1');
  await once(collector, 'listening');
  // The specifiers are computed because the files are JavaScript without declarations.
  const load = (file: string) => import(new URL(`../scripts/stack/${file}`, import.meta.url).href);
  parts = { ...(await load('start-stack.mjs')), ...(await load('ports.mjs')) };
  workerPort = await parts.availablePort('127.0.0.1', 0, 'WORKER_HEALTH_PORT');
  stack = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}` });
});
afterAll(async () => {
  await stack?.stop();
  collector.closeAllConnections();
  collector.close();
  await rm(folder, { recursive: true, force: true });
});

const start = (environment: NodeJS.ProcessEnv) =>
  parts.startStack({
    dataDir,
    modelsDir: path.join(folder, 'models'),
    env: { ...process.env, REDIS_URL: undefined, WORKER_HEALTH_PORT: String(workerPort), ...environment },
  });

async function until(id: string, enough: (job: Job) => boolean): Promise<Job> {
  const client = createClient({ baseUrl: stack!.apiUrl });
  const deadline = Date.now() + 240_000;
  for (;;) {
    const found = await client.getJob(id);
    if (enough(found)) return found;
    if (Date.now() > deadline) throw new Error(`the condition was not reached: ${JSON.stringify(found)}`);
    await sleep(50);
  }
}

async function post(call: string, body: string, contentType: string): Promise<{ id: string }> {
  const answer = await fetch(`${stack!.apiUrl}${call}`, {
    method: 'POST',
    headers: { 'content-type': contentType, 'x-request-id': REQUEST_ID },
    body,
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return JSON.parse(text);
}

type LogLine = Record<string, unknown>;
const linesOf = async (service: string): Promise<LogLine[]> =>
  (await readFile(path.join(stack!.logsDir, `${service}.log`), 'utf8'))
    .split('\n')
    // What follows the last end of a line is not complete yet.
    .slice(0, -1)
    .map((line) => JSON.parse(line));

test('a job is trained, downloaded and merged', async () => {
  const dataset = await post('/datasets', ROWS, 'application/x-ndjson');
  const request = {
    base_model: 'tiny-llama',
    dataset: dataset.id,
    lora: { r: 2, target_modules: ['q_proj'] },
    training: { max_steps: 4, batch_size: 2, precision: 'float32' },
  };
  const { id } = await post('/jobs', JSON.stringify(request), 'application/json');
  job = await until(id, ({ status }) => status === 'succeeded' || status === 'failed');
  expect(job.error).toBeNull();
  for (const weights of ['adapter', 'merged']) {
    const answer = await fetch(`${stack!.apiUrl}/adapters/${job.adapter}?weights=${weights}`);
    expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(1_000);
  }
});

test('the id of a job, and of the request that created it, connect the logs of api, worker and registry', async () => {
  // The lines of a process reach its file a little after its answers reach the caller.
  const count = async (service: string, msg: string) =>
    (await linesOf(service)).filter((line) => line.msg === msg).length;
  await expect.poll(() => count('registry', 'download started')).toBe(2);
  await expect.poll(() => count('worker', 'job ended')).toBe(1);
  const [api, worker, registry] = await Promise.all(['api', 'worker', 'registry'].map(linesOf));
  expect(api).toContainEqual(
    expect.objectContaining({ msg: 'job accepted', service: 'api', job: job.id, request_id: REQUEST_ID }),
  );
  for (const msg of ['job started', 'job ended']) {
    const ids = { job: job.id, adapter: job.adapter, request_id: REQUEST_ID };
    expect(worker).toContainEqual(expect.objectContaining({ msg, service: 'worker', ...ids }));
  }
  const downloads = registry!.filter(({ msg }) => msg === 'download started');
  expect(downloads).toEqual(
    ['adapter', 'merged'].map((weights) =>
      expect.objectContaining({
        service: 'registry',
        job: job.id,
        adapter: job.adapter,
        weights,
        request_id: expect.any(String),
      }),
    ),
  );
  expect(registry).toContainEqual(expect.objectContaining({ msg: 'merge-finished', adapter: job.adapter }));
});

test('each service exports its metrics to Prometheus', async () => {
  const scrape = async (url: string) => {
    const answer = await fetch(`${url}/metrics`);
    expect(answer.status).toBe(200);
    return (await answer.text()).split('\n');
  };
  const api = await scrape(stack!.apiUrl);
  expect(api).toContain('lorasmith_jobs{status="succeeded"} 1');
  expect(api).toContain('lorasmith_http_requests_total{method="POST",route="/jobs",status="202"} 1');
  const worker = await scrape(`http://127.0.0.1:${workerPort}`);
  expect(worker).toContain('lorasmith_job_attempts_total{outcome="succeeded",code=""} 1');
  expect(worker).toContain('lorasmith_training_step_seconds_count 3');
  const registry = await scrape(stack!.registryUrl);
  expect(registry).toContain('lorasmith_downloads_total{weights="merged"} 1');
  expect(registry).toContain('lorasmith_merges_total{outcome="succeeded",code=""} 1');
});

test('one trace covers the request, the queue and the adapter; one trace of each download covers both services', async () => {
  before = await lists();
  await stack!.stop();
  stack = undefined;
  const find = (name: string, service: string) => {
    const found = spans.filter((span) => span.name === name && span.service === `lorasmith-${service}`);
    expect([name, service, found.length]).toEqual([name, service, expect.any(Number)]);
    return found;
  };
  const below = (parent: Span | undefined) => spans.filter(({ parentSpanId }) => parentSpanId === parent?.spanId);
  const [request] = find('POST /jobs', 'api');
  expect(below(request).map(({ name }) => name)).toEqual(['plan job', 'queue job']);
  const [queued] = find('queue job', 'api');
  const [run] = find('run job', 'worker');
  expect(run?.parentSpanId).toBe(queued?.spanId);
  expect(run?.attributes).toContainEqual({ key: 'lorasmith.job', value: { stringValue: job.id } });
  expect(below(run).map(({ name }) => name)).toEqual(['prepare job', 'train adapter', 'publish adapter']);
  expect(new Set([request, queued, run, ...below(run)].map((span) => span?.traceId)).size).toBe(1);
  const [merge] = find('merge adapter', 'registry');
  const served = spans.find(({ spanId }) => spanId === merge?.parentSpanId);
  expect([served?.name, served?.service]).toEqual(['GET /adapters/:id', 'lorasmith-registry']);
  const asked = spans.find(({ spanId }) => spanId === served?.parentSpanId);
  expect([asked?.name, asked?.service, asked?.parentSpanId]).toEqual(['GET /adapters/:id', 'lorasmith-api', undefined]);
});

test('a backup of the stopped stack, made as in docs/operations.md, restores all data', async () => {
  const backup = path.join(folder, 'backup');
  for (const name of ['datasets', 'adapters', 'jobs', 'redis']) {
    await cp(path.join(dataDir, name), path.join(backup, name), { recursive: true });
  }
  await rm(dataDir, { recursive: true });
  await makeDataFolder(dataDir);
  await cp(backup, dataDir, { recursive: true });
  stack = await start({});
  expect(await lists()).toBe(before);
  const answer = await fetch(`${stack.apiUrl}/adapters/${job.adapter}?weights=merged`);
  expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(1_000);
});

/** Everything that a backup must restore, as the api returns it. */
async function lists(): Promise<string> {
  const calls = ['/jobs', '/datasets', '/adapters', `/jobs/${job.id}/events?limit=1000`];
  const answers = calls.map(async (call) => {
    const answer = await fetch(`${stack!.apiUrl}${call}`, { headers: { accept: 'application/json' } });
    return await answer.text();
  });
  const texts = await Promise.all(answers);
  expect(texts.every((text) => text.includes(job.id.slice(4)) || text.includes(job.dataset))).toBe(true);
  return texts.join('\n');
}
