import { Redis } from 'ioredis';
import type { JobId } from '../../packages/contracts/src/index.js';
import { createJobStore, type JobStore } from '../../packages/queue/src/index.js';
import { aJobSpec } from '../../packages/queue/test/a-job-spec.js';

/** The number of jobs that {@link writeManyJobs} writes. */
export const MANY = 500;
export const OLDEST = 'the oldest of all';
export const SWEEP = 'ranks';
/** The ranks of the variants of the sweep. */
export const RANKS = [4, 8, 16];
/** The rank of the variant that a rung has stopped. */
export const STOPPED = 8;
/** The number of jobs that are newer than the sweep. */
const AFTER_SWEEP = 5;
const STEPS = 12;

const FAILURE = {
  code: 'non_finite_loss',
  message:
    'The loss of step 7 is not a finite number. Lower training.learning_rate, or look for rows that are no text.',
  details: [],
};

/** Writes the records of many jobs, without a worker: succeeded, failed, paused and cancelled ones with ranks from 1 to 50, and a sweep amid them. */
export async function writeManyJobs(redisUrl: string): Promise<void> {
  const redis = new Redis(redisUrl);
  const store = createJobStore({ redis });
  const single = MANY - RANKS.length;
  for (let number = 0; number < single; number++) {
    if (number === single - AFTER_SWEEP) await createSweep(store);
    const name = number === 0 ? OLDEST : `run ${number}`;
    const { job } = await store.createJob(specOf(name, (number % 50) + 1), { requestHash: 'h' });
    if (number % 6 === 1) await store.requestPause(job.id);
    else if (number % 6 === 3) await train(store, job.id, number);
    else if (number % 6 === 5) await train(store, job.id, null);
    else await store.requestCancel(job.id);
    if (number % 10 === 3) await store.changeDetails(job.id, { tags: ['baseline', 'second try of the learning rate'] });
  }
  await store.close();
  await redis.quit();
}

const specOf = (name: string, r: number) => aJobSpec({ name, lora: { ...aJobSpec().lora, r, alpha: r } });

/** Ends a job after some steps. @param number - Of the adapter, which is not stored; null: it fails */
async function train({ attempts }: JobStore, id: JobId, number: number | null): Promise<void> {
  const start = await attempts.start(id, 'w');
  if (start.outcome !== 'started') throw new Error(start.reason);
  const { attempt } = start;
  const figures = { epoch: 0.4, accuracy: 0.5, learning_rate: 1e-3, grad_norm: 1, tokens_per_second: 1_234.5 };
  for (let step = 1; step <= STEPS; step++) {
    const data = { ...figures, step, total_steps: STEPS, loss: 3 / step, seconds_left: STEPS - step };
    await attempts.record(attempt, { type: 'step-finished', data });
  }
  if (number === null) await attempts.fail(attempt, FAILURE);
  else await attempts.succeed(attempt, `ad_${String(number).padStart(24, '0')}`, STEPS);
}

async function createSweep(store: JobStore): Promise<void> {
  const variants = RANKS.map((r) => ({
    values: { 'lora.r': r },
    spec: specOf(`${SWEEP} r=${r}`, r),
    adapterBytes: 0,
  }));
  const request = {
    job: { base_model: 'tiny-llama', dataset: aJobSpec().dataset, validation: { split: 0.5 } },
    space: { 'lora.r': { values: RANKS } },
    name: SWEEP,
  };
  const { sweep } = await store.sweeps.create(request, variants, { requestHash: 'h', owner: null });
  for (const { job, values } of sweep.variants) {
    await store.requestCancel(job, values['lora.r'] === STOPPED ? { stoppedAtRung: 10 } : {});
  }
}
