import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { Redis } from 'ioredis';
import { expect } from 'vitest';
import { Value } from '../../../packages/contracts/node_modules/typebox/build/value/index.mjs';
import {
  AdapterManifest,
  ENDED_STATUSES,
  ERRORS,
  type Grader,
  type Job,
  type JobId,
  type JobStatus,
} from '../../../packages/contracts/src/index.js';
import { eventually, eventuallyPasses } from './eventually.js';
import type { FaultStand } from './fault-stand.js';
import { datasetTextOf, type JobKind, requestOf } from './jobs-of-the-suite.js';

/** The result of a job that nothing disturbed: sha256 of the files of its adapter. */
export type Undisturbed = Record<JobKind, { config: string; weights: string }>;

/** A job that the api has accepted. */
export interface AcceptedJob {
  id: JobId;
  kind: JobKind;
}

/**
 * @param beforeQueued - Called when the rows are stored and the job is not yet queued.
 * @param grader - See requestOf.
 */
export async function submit(
  stand: FaultStand,
  kind: JobKind,
  beforeQueued: () => Promise<unknown> = async () => {},
  grader?: Grader,
): Promise<AcceptedJob> {
  const dataset = await stand.client.uploadDataset({ text: datasetTextOf(kind) });
  await beforeQueued();
  const { id } = await stand.client.createJob(requestOf(kind, dataset.id, grader), {
    idempotencyKey: crypto.randomUUID(),
  });
  return { id, kind };
}

/** Waits until the condition holds for the job. */
export async function when(
  stand: FaultStand,
  { id }: AcceptedJob,
  what: string,
  isSo: (job: Job) => boolean,
): Promise<Job> {
  return await eventually(`${id}: ${what}`, async () => {
    const job = await stand.client.getJob(id).catch(() => null);
    if (job !== null && isSo(job)) return job;
    if (job !== null && ENDED_STATUSES.includes(job.status)) throw new Error(`${id} ended before: ${what}`);
    return undefined;
  });
}

/** True if its attempt has reached a trainer, and a step was done by this or an earlier one, whose progress the record keeps. */
export const isTraining = ({ status, progress }: Job) => status === 'running' && (progress?.step ?? 0) >= 1;

/**
 * Waits until every job has ended. Checks that each ended with the right adapter or a clear failure, and that nothing else
 * is left of any of them: no adapter, file, queue entry or lock.
 *
 * @returns the jobs as they ended
 */
export async function accountFor(stand: FaultStand, accepted: AcceptedJob[], undisturbed: Undisturbed): Promise<Job[]> {
  const jobs: Job[] = [];
  for (const { id, kind } of accepted) {
    const job = await eventually(`${id} ends`, async () => {
      const found = await stand.client.getJob(id).catch(() => null);
      return found !== null && ENDED_STATUSES.includes(found.status) ? found : undefined;
    });
    await checkEnd(stand, job, undisturbed[kind]);
    jobs.push(job);
  }
  const adapters = (await stand.client.listAdapters({ limit: 100 })).data;
  for (const job of jobs) {
    const own = adapters.filter(({ origin }) => origin.kind === 'trained' && origin.job === job.id).map(({ id }) => id);
    expect(own, `the adapters of ${job.id}`).toEqual(job.adapter === null ? [] : [job.adapter]);
  }
  // The worker cleans up and reports to the queue after the record has ended.
  await eventuallyPasses(async () => {
    for (const job of jobs) expect(await leftOf(stand, job), `left of ${job.id}`).toEqual([]);
  });
  return jobs;
}

async function checkEnd(stand: FaultStand, job: Job, expected: Undisturbed[JobKind]): Promise<void> {
  switch (job.status) {
    case 'succeeded': {
      expect(job.error).toBeNull();
      const id = job.adapter ?? '';
      const manifest = await stand.client.manifest(id);
      expect([...Value.Errors(AdapterManifest, manifest)]).toEqual([]);
      expect(manifest.origin).toMatchObject({ kind: 'trained', job: job.id });
      const base = `${stand.apiUrl}/adapters/${id}/files`;
      expect(await sha256Of(`${base}/adapter_model.safetensors`), 'the weights of the undisturbed run').toBe(
        expected.weights,
      );
      expect(await sha256Of(`${base}/adapter_config.json`)).toBe(expected.config);
      break;
    }
    case 'failed':
      expect(job.adapter).toBeNull();
      expect(Object.keys(ERRORS)).toContain(job.error?.code);
      // This code would not explain the failure.
      expect(job.error?.code).not.toBe('internal_error');
      expect(job.error?.message.length).toBeGreaterThan(20);
      break;
    default:
      expect(job).toMatchObject({ status: 'cancelled', adapter: null });
  }
  expect(await lastEventOf(stand, job.id)).toBe(LAST_EVENT[job.status]);
}

const LAST_EVENT: Partial<Record<JobStatus, string>> = {
  succeeded: 'adapter-published',
  failed: 'job-failed',
  cancelled: 'job-cancelled',
};

async function lastEventOf(stand: FaultStand, id: JobId): Promise<string | undefined> {
  let last: string | undefined;
  for await (const { type } of stand.client.events(id)) last = type;
  return last;
}

async function sha256Of(url: string): Promise<string> {
  const answer = await fetch(url);
  expect(answer.status).toBe(200);
  return createHash('sha256')
    .update(Buffer.from(await answer.arrayBuffer()))
    .digest('hex');
}

/** Files, queue entries and locks of an ended job that should be gone. */
async function leftOf(stand: FaultStand, { id }: Job): Promise<string[]> {
  const left: string[] = [];
  const folder = path.join(stand.dataDir, 'jobs', id);
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  // Its checkpoints are retained, to be resumed from or published, and its log for TensorBoard. The output of attempts is not.
  for (const name of names) {
    const isKept = /^(checkpoints(\/[^/]+\.(safetensors|json))?|tensorboard(\/[^/]+tfevents[^/]*)?)$/.test(name);
    if (!isKept) left.push(path.join('jobs', id, name));
  }
  const redis = new Redis(stand.redis.url);
  try {
    for await (const keys of redis.scanStream({ match: '*', count: 500 })) {
      for (const key of keys as string[]) {
        if (key.endsWith(`${id}:lock`)) left.push(key);
        if (/:queue:training:(active|wait|paused)$/.test(key) && (await redis.lrange(key, 0, -1)).includes(id))
          left.push(key);
        if (/:queue:training:(delayed|prioritized)$/.test(key) && (await redis.zscore(key, id)) !== null)
          left.push(key);
        if (/:input:.*:active-jobs$/.test(key) && (await redis.sismember(key, id))) left.push(key);
      }
    }
  } finally {
    redis.disconnect();
  }
  return left;
}
