import { createMetrics, NO_TRACING } from '@lorasmith/service-kit';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { aJobSpec } from '../test/a-job-spec.js';
import { type RunJobDeps, runJob } from './run-job.js';
import { createWorkerMetrics } from './worker-metrics.js';

test('a job that was released stays so where the folder of its attempt cannot be removed', async () => {
  const id = 'job_0123456789abcdef01234567';
  const job = { ...aJobSpec('finish'), id, kind: 'train', created_at: '2026-01-01T00:00:00.000Z' };
  const writes: string[] = [];
  const unread = async () => {
    throw new Error('not needed after a stop');
  };
  const deps = {
    store: {
      attempts: {
        start: async () => ({ outcome: 'started', attempt: { job, number: 1, token: 't', origin: {} } }),
        check: async () => 'done',
        release: async () => {
          writes.push('released');
          return 'done';
        },
      },
    },
    sources: {
      adapters: { has: async () => false },
      models: { lease: unread },
      datasets: { lease: unread },
      folders: {
        logOf: () => 'nowhere',
        removeAttempt: async () => {
          throw new Error('EBUSY: the folder is busy');
        },
      },
    },
    pool: { add: () => ({ leave() {} }) },
    metrics: createWorkerMetrics(createMetrics({ service: 'worker' })),
    log: pino({ level: 'silent' }),
    tracing: NO_TRACING,
    workerName: 'worker-1',
    watchIntervalMs: 60_000,
    jobTimeoutMs: 60_000,
  } as unknown as RunJobDeps;
  const signal = AbortSignal.abort('shutdown');
  const options = { resumes: 0, onCounted() {}, signal, pause: new AbortController().signal, isLast: false };
  expect(await runJob(deps, id, options)).toEqual({ kind: 'released' });
  expect(writes).toEqual(['released']);
});
