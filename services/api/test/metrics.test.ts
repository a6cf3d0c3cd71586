import { afterAll, beforeAll, expect, test } from 'vitest';
import { aMachine } from '../../../test/a-machine.js';
import { absentRedisUrl, type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let api: RealApi;
beforeAll(async () => {
  server = await startRealRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});

test('metrics report the number of jobs in each state, and how long the first one waits', async () => {
  const upload = await api.app.inject({
    method: 'POST',
    url: '/datasets',
    headers: { 'content-type': 'application/x-ndjson' },
    payload: promptRows(8),
  });
  const send = (n: number) =>
    api.app.inject({
      method: 'POST',
      url: '/jobs',
      payload: { base_model: 'tiny-llama', dataset: upload.json().id, name: `job ${n}`, training: { max_steps: 1 } },
    });
  const [first, second] = [await send(1), await send(2)];
  expect([first.statusCode, second.statusCode]).toEqual([202, 202]);
  await api.app.inject({ method: 'POST', url: `/jobs/${second.json().id}/cancel` });
  const answer = await api.app.inject('/metrics');
  expect(answer.headers['content-type']).toMatch(/^text\/plain/);
  const text = answer.body;
  for (const [status, count] of Object.entries({ queued: 1, running: 0, cancelled: 1, succeeded: 0, failed: 0 })) {
    expect(text).toContain(`lorasmith_jobs{status="${status}"} ${count}\n`);
  }
  const oldest = Number(/^lorasmith_queue_oldest_seconds\{queue="training"\} (\S+)$/m.exec(text)?.[1]);
  expect(oldest).toBeGreaterThan(0);
  expect(oldest).toBeLessThan(300);
  expect(text).toContain('lorasmith_redis_up 1\n');
  expect(text).toContain('lorasmith_http_requests_total{method="POST",route="/jobs",status="202"} 2\n');
  expect(text).toMatch(/^lorasmith_folder_bytes\{folder="data",state="free"\} [1-9]/m);
  expect(text).not.toContain(first.json().id);
});

test('the work of each class of workers is reported by the memory that its jobs need', async () => {
  const own = await startRealRedis();
  const GIBIBYTE = 2 ** 30;
  const classes = [
    { name: 'tiny', memory: 1 },
    { name: 'a10g', memory: 21 * GIBIBYTE },
    { name: 'h100', memory: 78 * GIBIBYTE },
  ];
  const classed = await startRealApi({
    redisUrl: own.url,
    prefix: own.prefix,
    workerClasses: { classes, secondsPerWorker: 1e-9 },
  });
  try {
    const figures = async () => {
      const { body } = await classed.app.inject('/metrics');
      const found = [...body.matchAll(/^lorasmith_worker_class_(\w+)\{class="(\w+)"(?:,state="(\w+)")?\} (\S+)$/gm)];
      return Object.fromEntries(
        found.map(([, figure, of, state = '', value]) => [`${of} ${state} ${figure}`, Number(value)]),
      );
    };
    expect(await figures()).toMatchObject({
      'a10g waiting jobs': 0,
      'a10g  wanted': 0,
      'tiny  wanted': 0,
      'h100  wanted': 0,
    });
    await classed.jobs.machines.publish(aMachine({ worker: 'gone', memory_bytes: 64e9 }));
    const post = async (url: string, payload: string | object, type: string) =>
      (await classed.app.inject({ method: 'POST', url, headers: { 'content-type': type }, payload })).json();
    const dataset = await post('/datasets', promptRows(8), 'application/x-ndjson');
    const job = await post(
      '/jobs',
      { base_model: 'tiny-llama', dataset: dataset.id, training: { max_steps: 2 } },
      'application/json',
    );
    // A scrape within a second has the figures of the one before.
    await expect.poll(figures, { timeout: 60_000, interval: 200 }).toMatchObject({ 'a10g waiting jobs': 1 });
    const found = await figures();
    expect(found['a10g waiting tokens']).toBeGreaterThan(0);
    expect(found['a10g waiting seconds']).toBeGreaterThan(0);
    expect(found).toMatchObject({ 'a10g  wanted': 1, 'tiny  wanted': 0, 'tiny waiting jobs': 0, 'h100  wanted': 0 });
    // The worker that trains it has a class of its own.
    await classed.jobs.attempts.start(job.id, 'w', 0);
    await classed.jobs.queue.announce('w', { slots: 1, held: [job.id], workerClass: 'h100' });
    await expect.poll(figures, { timeout: 60_000, interval: 200 }).toMatchObject({
      'a10g waiting jobs': 0,
      'a10g  wanted': 0,
      'h100 running jobs': 1,
      'h100  wanted': 1,
    });
  } finally {
    await classed.stop();
    await own.stop();
  }
});

test('without Redis the metrics of the queue are missing instead of zero', async () => {
  const workerClasses = { classes: [{ name: 'a', memory: 1 }], secondsPerWorker: 1 };
  const alone = await startRealApi({ redisUrl: await absentRedisUrl(), workerClasses });
  try {
    const { statusCode, body } = await alone.app.inject('/metrics');
    expect(statusCode).toBe(200);
    expect(body).toContain('lorasmith_redis_up 0\n');
    expect(body).not.toMatch(/^lorasmith_(jobs|queue_oldest_seconds|worker_class_\w+)\{/m);
  } finally {
    await alone.stop();
  }
});
