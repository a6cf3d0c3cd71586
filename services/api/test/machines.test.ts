import { type MachineList, type MachineProfile, newIdentifier } from '@lorasmith/contracts';
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

const profile = (worker: string, engine: MachineProfile['engine']) => aMachine({ worker, engine });

test('what the workers train on is listed by their names, as they published it last', async () => {
  expect((await api.app.inject('/machines')).json()).toEqual({ data: [] });
  const onCpu = profile('b', { kind: 'cpu', card: null, self_test: null });
  const onGpu = profile('a', {
    kind: 'cuda',
    card: {
      name: 'NVIDIA L4',
      uuid: 'GPU-1',
      compute_capability: '8.9',
      driver: '550.54.15, CUDA 12.4',
      memory_bytes: 25e9,
    },
    self_test: {
      tested_at: '2026-11-26T00:00:00.000Z',
      seconds: 9,
      cases: 171,
      failed: [{ case: 'rmsNorm bfloat16 [3, 37]', fault: 'two runs on the card differ' }],
      kernels: 'fused',
      avoided_kernels: ['rmsNorm:bfloat16'],
      distrust: null,
    },
  });
  await api.jobs.machines.publish(onCpu);
  await api.jobs.machines.publish({ ...onGpu, memory_bytes: 1 });
  await api.jobs.machines.publish(onGpu);
  expect((await api.app.inject('/machines')).json()).toEqual({
    data: [
      { ...onGpu, running: null },
      { ...onCpu, running: null },
    ],
  });
});

test('a job is planned for one of them', async () => {
  const headers = { 'content-type': 'text/plain' };
  const upload = await api.app.inject({ method: 'POST', url: '/datasets', payload: promptRows(20), headers });
  const payload = { base_model: 'tiny-llama', dataset: upload.json().id };
  const dryRun = await api.app.inject({ method: 'POST', url: '/jobs?dry_run=true', payload });
  expect(dryRun.json()).toMatchObject({ estimate: { machine: expect.any(String), total_seconds: expect.any(Number) } });
  const answer = await api.app.inject({ method: 'POST', url: '/jobs', payload });
  expect(answer.statusCode, answer.body).toBe(202);
});

test('whether a worker runs, and how many jobs it trains', async () => {
  const runningOf = async () => {
    const { data } = (await api.app.inject('/machines')).json() as MachineList;
    return Object.fromEntries(data.map(({ worker, running }) => [worker, running]));
  };
  await api.jobs.queue.announce('b', { slots: 4, held: [newIdentifier('job')] });
  expect(await runningOf()).toEqual({ a: null, b: { jobs: 1, jobs_at_once: 4, load: null } });
  const memory = { memory_used_bytes: 3, memory_total_bytes: 8 };
  const load = { read_at: '2026-11-26T00:00:00.000Z', processor_busy: 0.5, ...memory, card: { busy: 1, ...memory } };
  await api.jobs.queue.announce('b', { slots: 4, held: [], load });
  expect(await runningOf()).toEqual({ a: null, b: { jobs: 0, jobs_at_once: 4, load } });
  await api.jobs.queue.leave('b');
  expect(await runningOf()).toEqual({ a: null, b: null });
});

test('machines are not known without Redis', async () => {
  const alone = await startRealApi({ redisUrl: await absentRedisUrl() });
  try {
    const answer = await alone.app.inject('/machines');
    expect([answer.statusCode, answer.json().error.code]).toEqual([503, 'redis_unavailable']);
  } finally {
    await alone.stop();
  }
});
