import { afterAll, beforeAll, expect, test } from 'vitest';
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

test('without Redis the metrics of the queue are missing instead of zero', async () => {
  const alone = await startRealApi({ redisUrl: await absentRedisUrl() });
  try {
    const { statusCode, body } = await alone.app.inject('/metrics');
    expect(statusCode).toBe(200);
    expect(body).toContain('lorasmith_redis_up 0\n');
    expect(body).not.toMatch(/^lorasmith_(jobs|queue_oldest_seconds)\{/m);
  } finally {
    await alone.stop();
  }
});
