import { totalmem } from 'node:os';
import type { EventData, MachineEngine } from '@lorasmith/contracts';
import { createMetrics, type Registry } from '@lorasmith/service-kit';
import { beforeEach, expect, test, vi } from 'vitest';
import { type AttemptMetrics, createWorkerMetrics, observeMachine, type WorkerMetrics } from './worker-metrics.js';

const CPU: MachineEngine = { kind: 'cpu', card: null, self_test: null };

let registry: Registry;
let metrics: WorkerMetrics;
beforeEach(() => {
  registry = createMetrics({ service: 'worker' });
  metrics = createWorkerMetrics(registry);
});

async function value(series: string): Promise<number> {
  const lines = (await registry.metrics()).split('\n');
  return Number(
    lines
      .find((line) => line.startsWith(`${series} `))
      ?.split(' ')
      .at(-1),
  );
}

const step = (attempt: AttemptMetrics, changes: Partial<EventData<'step-finished'>> = {}) =>
  attempt.happened({
    type: 'step-finished',
    data: {
      step: 1,
      total_steps: 9,
      epoch: 0,
      loss: 1,
      accuracy: 0.5,
      learning_rate: 1e-4,
      grad_norm: 1,
      tokens_per_second: 500,
      seconds_left: 1,
      ...changes,
    },
  });
const failure = (code: string) => ({ code, message: 'a message with job_1 in it', details: [] });

test('the wait is that of the first attempt, the run is that of each', async () => {
  const created_at = new Date(Date.now() - 100_000).toISOString();
  const first = metrics.started({ created_at }, 1);
  expect(await value('lorasmith_jobs_running')).toBe(1);
  first.ended({ kind: 'retry', failure: failure('trainer_crashed') }, 30);
  metrics.started({ created_at }, 2).ended({ kind: 'ended', status: 'succeeded' }, 40);
  expect(await value('lorasmith_jobs_running')).toBe(0);
  expect(await value('lorasmith_job_wait_seconds_count')).toBe(1);
  expect(await value('lorasmith_job_wait_seconds_sum')).toBeGreaterThanOrEqual(100);
  expect(await value('lorasmith_job_run_seconds_sum{outcome="retry"}')).toBe(30);
  expect(await value('lorasmith_job_run_seconds_sum{outcome="succeeded"}')).toBe(40);
  expect(await value('lorasmith_job_attempts_total{outcome="retry",code="trainer_crashed"}')).toBe(1);
  expect(await value('lorasmith_job_attempts_total{outcome="succeeded",code=""}')).toBe(1);
});

test('whatever codes a trainer makes up, there is one more series', async () => {
  for (let i = 0; i < 50; i++) {
    const attempt = metrics.started({ created_at: new Date().toISOString() }, 1);
    attempt.ended({ kind: 'ended', status: 'failed', failure: failure(`made_up_${i}`) }, 1);
  }
  expect(await value('lorasmith_job_attempts_total{outcome="failed",code="other"}')).toBe(50);
  expect((await registry.metrics()).match(/^lorasmith_job_attempts_total\{/gm)).toHaveLength(1 + 5 + 8);
});

test('the first step, before which the model is loaded, has no time; those after it have', async () => {
  const attempt = metrics.started({ created_at: new Date().toISOString() }, 1);
  attempt.happened({ type: 'report-ready', data: { report: {} as never } });
  step(attempt);
  expect(await value('lorasmith_training_step_seconds_count')).toBe(0);
  attempt.happened({ type: 'checkpoint-saved', data: { step: 1 } });
  step(attempt, { step: 2, tokens_per_second: 700 });
  step(attempt, { step: 3, tokens_per_second: 700 });
  expect(await value('lorasmith_training_step_seconds_count')).toBe(2);
  expect(await value('lorasmith_checkpoints_total')).toBe(1);
  expect(await value('lorasmith_training_tokens_per_second')).toBe(700);
  expect(await value('lorasmith_training_tokens_total')).toBeGreaterThan(0);
  attempt.ended({ kind: 'released' }, 1);
  expect(await value('lorasmith_training_tokens_per_second')).toBe(0);
});

test('the time of a step has that in which its answers are sampled and graded', async () => {
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
  try {
    const attempt = metrics.started({ created_at: new Date().toISOString() }, 1);
    step(attempt);
    now += 9_000;
    attempt.happened({ type: 'answers-graded', data: { step: 2, line: 1, prompt: '', answers: [] } });
    now += 1_000;
    step(attempt, { step: 2, tokens_per_second: 100 });
  } finally {
    clock.mockRestore();
  }
  expect(await value('lorasmith_training_step_seconds_sum')).toBe(10);
  expect(await value('lorasmith_training_tokens_total')).toBe(1_000);
});

test('of several jobs, each has its own steps, and their speeds add up', async () => {
  const created_at = new Date().toISOString();
  const [one, other] = [metrics.started({ created_at }, 1), metrics.started({ created_at }, 1)];
  step(one, { tokens_per_second: 300 });
  // The first of its job: what the other did before is not its time.
  step(other, { tokens_per_second: 200 });
  expect(await value('lorasmith_training_step_seconds_count')).toBe(0);
  step(other, { step: 2, tokens_per_second: 250 });
  expect(await value('lorasmith_training_step_seconds_count')).toBe(1);
  expect(await value('lorasmith_training_tokens_per_second')).toBe(550);
  one.ended({ kind: 'released' }, 1);
  expect(await value('lorasmith_training_tokens_per_second')).toBe(250);
});

test('the machine is reported with the memory of its trainer', async () => {
  let trainerPid: number | undefined = process.pid;
  observeMachine(registry, { workerName: 'gpu-1', engine: CPU, trainerPid: () => trainerPid });
  expect(await value('lorasmith_worker_info{worker="gpu-1",device="cpu"}')).toBe(1);
  expect(await value('lorasmith_trainer_memory_bytes')).toBeGreaterThan(10_000_000);
  const total = await value('lorasmith_host_memory_bytes{state="total"}');
  expect(total).toBeGreaterThan(await value('lorasmith_host_memory_bytes{state="available"}'));
  expect(total).toBeLessThanOrEqual(totalmem());
  trainerPid = undefined;
  expect(await value('lorasmith_trainer_memory_bytes')).toBe(0);
});

test('the engine is reported with its card, and what its self-test found', async () => {
  const card = {
    name: 'NVIDIA A10G',
    uuid: 'GPU-8f6b2c1e',
    compute_capability: '8.6',
    driver: '550.54.15, CUDA 12.4',
    memory_bytes: 2 ** 34,
  };
  const tested = {
    tested_at: '2026-11-26T00:00:00.000Z',
    seconds: 9,
    cases: 171,
    failed: [{ case: 'rmsNorm bfloat16 [3, 37]', fault: 'two runs on the card differ' }],
    kernels: 'fused' as const,
    avoided_kernels: ['rmsNorm:bfloat16'],
    distrust: null,
  };
  observeMachine(registry, {
    workerName: 'gpu-1',
    engine: { kind: 'cuda', card, self_test: tested },
    trainerPid: () => undefined,
  });
  expect(await value('lorasmith_worker_info{worker="gpu-1",device="gpu"}')).toBe(1);
  const lines = await registry.metrics();
  expect(lines).toContain(
    'lorasmith_engine_info{engine="cuda",card="NVIDIA A10G",compute_capability="8.6",driver="550.54.15, CUDA 12.4",kernels="fused"} 1',
  );
  expect(await value('lorasmith_self_test_cases{result="right"}')).toBe(170);
  expect(await value('lorasmith_self_test_cases{result="wrong"}')).toBe(1);
  expect(await value('lorasmith_avoided_kernel_info{kernel="rmsNorm:bfloat16"}')).toBe(1);
});

test('an engine that is trusted with plain ops only is reported as such', async () => {
  const tested = {
    tested_at: '2026-11-26T00:00:00.000Z',
    seconds: 9,
    cases: 171,
    failed: [{ case: 'training step bfloat16', fault: 'gradient differs by 0.5 of its length' }],
    kernels: 'raw' as const,
    avoided_kernels: [],
    distrust: null,
  };
  const engine = { kind: 'cuda' as const, card: null, self_test: tested };
  observeMachine(registry, { workerName: 'gpu-1', engine, trainerPid: () => undefined });
  expect(await registry.metrics()).toMatch(/lorasmith_engine_info\{engine="cuda",.*kernels="raw"\} 1/);
  expect(await value('lorasmith_self_test_cases{result="wrong"}')).toBe(1);
});
