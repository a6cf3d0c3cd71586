import { hostname } from 'node:os';
import {
  dataDir,
  logLevel,
  modelsDir,
  redisPrefix,
  redisUrl,
  setting,
  shutdownTimeoutMs,
} from '@lorasmith/service-kit';
import { Type } from 'typebox';

const workerName = setting({
  variable: 'WORKER_NAME',
  schema: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
  fallback:
    hostname()
      .replace(/[^A-Za-z0-9._-]/g, '-')
      .slice(0, 64) || 'worker',
  example: 'gpu-1',
  fault: 'has other characters than letters, digits and ._- or is longer than 64',
  description: 'Name of this worker in the events of its jobs. The default is the name of the host.',
});

const jobLockMs = setting({
  variable: 'JOB_LOCK_MS',
  schema: Type.Integer({ minimum: 2_000, maximum: 3_600_000 }),
  fallback: '120000',
  unit: 'ms',
  example: '120000',
  description:
    'How long a worker may be out of reach before its job goes to another one. The same for every worker; shorter is ' +
    'sooner, and takes jobs away while Redis is slow.',
});

const trainerIdleMs = setting({
  variable: 'TRAINER_IDLE_MS',
  schema: Type.Integer({ minimum: 0, maximum: 86_400_000 }),
  fallback: '600000',
  unit: 'ms',
  example: '600000',
  description:
    'How long a trainer without a job is kept, with its base model in memory, for the next job on that model.',
});

/** The settings of the worker. */
export const WORKER_SETTINGS = {
  logLevel,
  redis: { url: redisUrl, prefix: redisPrefix },
  dataDir,
  modelsDir,
  workerName,
  jobLockMs,
  trainerIdleMs,
  shutdownTimeoutMs,
};
