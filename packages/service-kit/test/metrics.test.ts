import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { absentRedisUrl, startRealRedis } from '../../../test/real-redis.js';
import {
  createHttpApp,
  createMetrics,
  type HttpApp,
  metricsRoute,
  observeFolders,
  observeHttp,
  observeRedis,
  oncePerScrape,
  PRODUCT_VERSION,
  type Registry,
} from '../src/index.js';

let metrics: Registry;
let app: HttpApp;
beforeEach(async () => {
  metrics = createMetrics({ service: 'test' });
  app = createHttpApp({ logger: pino({ level: 'silent' }) });
  observeHttp(app, metrics);
  await app.register(metricsRoute, { metrics });
  app.get('/things/:id', async () => {
    await sleep(5);
    return {};
  });
  app.get('/broken', async () => {
    throw new Error('a bug');
  });
});
afterEach(() => app.close());

const scrape = async () => (await app.inject('/metrics')).body;
const linesOf = (text: string, name: string) => text.split('\n').filter((line) => line.startsWith(`${name}{`));

test('the version is that of the package', async () => {
  const file = new URL('../../../package.json', import.meta.url);
  expect(JSON.parse(await readFile(file, 'utf8')).version).toBe(PRODUCT_VERSION);
});

test('the answer has the format of Prometheus and contains the process and the version', async () => {
  const answer = await app.inject('/metrics');
  expect(answer.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(answer.body).toContain(
    `lorasmith_build_info{service="test",version="${PRODUCT_VERSION}",node="${process.versions.node}"} 1`,
  );
  expect(answer.body).toMatch(/^process_resident_memory_bytes \d+/m);
});

test('requests are counted and timed by the pattern of their route, not by their path', async () => {
  for (const id of ['one', 'two', 'a%2Fb']) await app.inject(`/things/${id}`);
  await app.inject('/broken');
  await app.inject('/things/one/more');
  await app.inject('/nowhere?secret=1');
  await app.inject({ method: 'PROPFIND' as 'GET', url: '/nowhere' });
  const text = await scrape();
  expect(linesOf(text, 'lorasmith_http_requests_total').sort()).toEqual([
    'lorasmith_http_requests_total{method="GET",route="/broken",status="500"} 1',
    'lorasmith_http_requests_total{method="GET",route="/things/:id",status="200"} 3',
    'lorasmith_http_requests_total{method="GET",route="none",status="404"} 2',
    'lorasmith_http_requests_total{method="other",route="none",status="404"} 1',
  ]);
  const [sum = ''] = linesOf(text, 'lorasmith_http_answer_seconds_sum').filter((line) => line.includes('/things'));
  expect(Number(sum.split(' ').at(-1))).toBeGreaterThan(3 * 0.004);
  expect(text).toContain('lorasmith_http_answer_seconds_count{method="GET",route="/things/:id"} 3');
});

test('a folder has the size of its file system; an unavailable folder has no figures', async () => {
  observeFolders(metrics, { here: '.', away: '/nowhere/at/all' });
  const lines = linesOf(await scrape(), 'lorasmith_folder_bytes');
  expect(lines.filter((line) => line.includes('"away"'))).toEqual([]);
  const [total, free] = ['total', 'free'].map((state) =>
    Number(
      lines
        .find((line) => line.includes(`state="${state}"`))
        ?.split(' ')
        .at(-1),
    ),
  );
  expect(total).toBeGreaterThan(free ?? Number.NaN);
});

test('Redis is up with its memory, or down without it', async () => {
  const server = await startRealRedis();
  const redis = new Redis(server.url);
  observeRedis(metrics, redis);
  try {
    await redis.ping();
    expect(await scrape()).toMatch(/^lorasmith_redis_up 1$[\s\S]*lorasmith_redis_memory_bytes\{state="used"\} [1-9]/m);
  } finally {
    redis.disconnect();
    await server.stop();
  }
});

test('an unavailable Redis does not delay a scrape', async () => {
  const redis = new Redis(await absentRedisUrl(), { maxRetriesPerRequest: null });
  redis.on('error', () => {});
  observeRedis(metrics, redis);
  try {
    const text = await scrape();
    expect(text).toMatch(/^lorasmith_redis_up 0$/m);
    expect(linesOf(text, 'lorasmith_redis_memory_bytes')).toEqual([]);
  } finally {
    redis.disconnect();
  }
});

test('concurrent calls share one read', async () => {
  let looks = 0;
  const look = oncePerScrape(async () => ++looks);
  expect(await Promise.all([look(), look(), look()])).toEqual([1, 1, 1]);
});
