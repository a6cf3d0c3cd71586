import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Checkpoint, Job } from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/queue';
import { openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CheckpointMirror } from '../src/checkpoint-mirror.js';
import { type CheckpointQuotas, FolderSweeps, type SweptStore } from '../src/folder-cleanup.js';
import { JobFolders } from '../src/job-folders.js';

const ID = 'job_0123456789abcdef01234567';
const HOUR_MS = 3_600_000;

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-folders-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

const inJob = (...parts: string[]) => path.join(dataDir, 'jobs', ID, ...parts);

const endedOnly = (hoursAgo: number) => ({ ended_at: new Date(Date.now() - hoursAgo * HOUR_MS).toISOString() });

/** The record of the job when the sweep reads it. */
const endedJob = (hoursAgo: number): Job =>
  ({ id: ID, status: 'cancelled', attempts: 2, ...endedOnly(hoursAgo) }) as Job;

const QUOTAS = { ofKey: 1_000, inAll: 1_000 };

const sweepsOf = (quotas: CheckpointQuotas = QUOTAS, folders = new JobFolders({ dataDir })) =>
  new FolderSweeps({ folders, retentionMs: 24 * HOUR_MS, quotas });

/** A sweep during which the job is resumed, right after the sweep has read its record. */
async function sweepOvertaken(job: Job, resume: () => Promise<void>): Promise<void> {
  const getJob = async () => {
    await resume();
    return job;
  };
  const store: SweptStore = {
    getJob,
    checkpoints: { list: async () => [], forget: async () => false, jobsBeingPublished: async () => new Set() },
    whileEnded: async () => null,
  };
  await sweepsOf().sweep(store);
}

test('a sweep removes no files of an attempt that started after it read the record', async () => {
  const leftover = inJob('checkpoints', 'step-0000000001.safetensors.0123456789ab.tmp');
  await mkdir(inJob('checkpoints'), { recursive: true });
  await writeFile(leftover, 'half');
  await utimes(leftover, new Date(), new Date(Date.now() - 3 * HOUR_MS));
  await mkdir(inJob('attempt-2'));
  await sweepOvertaken(endedJob(1), async () => {
    await mkdir(inJob('attempt-3'));
    await writeFile(inJob('checkpoints', 'step-0000000002.safetensors.0123456789ab.tmp'), 'being written');
  });
  expect((await readdir(inJob())).sort()).toEqual(['attempt-3', 'checkpoints']);
  expect(await readdir(inJob('checkpoints'))).toEqual(['step-0000000002.safetensors.0123456789ab.tmp']);
});

test('the checkpoints of a job that is resumed just before they expire are not removed', async () => {
  await mkdir(inJob('checkpoints'), { recursive: true });
  await sweepOvertaken(endedJob(48), async () => {
    await mkdir(inJob('attempt-3'));
  });
  expect((await readdir(inJob())).sort()).toEqual(['attempt-3', 'checkpoints']);
});

/** The jobs that still have checkpoints after a sweep, if the store contains these jobs. */
async function retainedAfterSweep(
  jobs: (Partial<Job> & { bytes?: number })[],
  limits: CheckpointQuotas,
  published: string[] = [],
): Promise<string[]> {
  const numbered = jobs.map((job, i) => ({ id: `job_${i}`, attempts: 1, status: 'succeeded', ...job }) as Job);
  const bytes = new Map(numbered.map(({ id }, i) => [id, jobs[i]?.bytes ?? 400]));
  for (const { id } of numbered) await mkdir(path.join(dataDir, 'jobs', id, 'checkpoints'), { recursive: true });
  const store: SweptStore = {
    getJob: async (id) => numbered.find((job) => job.id === id) ?? null,
    checkpoints: {
      list: async (id) => [{ bytes: bytes.get(id) }] as Checkpoint[],
      forget: async (id) => bytes.delete(id),
      jobsBeingPublished: async () => new Set(published),
    },
    whileEnded: async (_, __, work) => await work(),
  };
  await sweepsOf(limits).sweep(store);
  const left = (await readdir(path.join(dataDir, 'jobs'))).sort();
  expect([...bytes.keys()].sort()).toEqual(left);
  return left;
}

test('beyond the quota of a key, the checkpoints of its jobs that ended longest ago are removed', async () => {
  const left = await retainedAfterSweep(
    [
      { owner: 'key_a', ...endedOnly(3) },
      { owner: 'key_a', ...endedOnly(1) },
      { owner: 'key_b', ...endedOnly(5) },
      { owner: 'key_a', ...endedOnly(2) },
      { owner: null, ...endedOnly(4) },
    ],
    { ofKey: 800, inAll: 1e9 },
  );
  expect(left).toEqual(['job_1', 'job_2', 'job_3', 'job_4']);
});

test('the checkpoints of an unfinished job count, but are never removed', async () => {
  const going: Partial<Job> = { owner: 'key_a', status: 'running', ended_at: null };
  const jobs = [going, { owner: 'key_a', ...endedOnly(1) }, going, { owner: 'key_a', ...endedOnly(2) }];
  expect(await retainedAfterSweep(jobs, { ofKey: 500, inAll: 1e9 })).toEqual(['job_0', 'job_1', 'job_2']);
});

test('beyond the quota of all keys, the oldest checkpoints of any key are removed', async () => {
  const left = await retainedAfterSweep([endedOnly(1), { owner: 'key_a', ...endedOnly(3) }, endedOnly(2)], {
    ofKey: 1e9,
    inAll: 800,
  });
  expect(left).toEqual(['job_0', 'job_2']);
});

test('checkpoints removed for the quota of their key no longer count in the total', async () => {
  const left = await retainedAfterSweep(
    [
      { owner: 'key_a', bytes: 40, ...endedOnly(1) },
      { owner: 'key_a', bytes: 60, ...endedOnly(2) },
      { owner: 'key_a', bytes: 5, ...endedOnly(3) },
      { owner: 'key_b', bytes: 20, ...endedOnly(4) },
    ],
    { ofKey: 50, inAll: 100 },
  );
  expect(left).toEqual(['job_0', 'job_3']);
});

test("the checkpoints of a key's last ended job are never removed for the quota of the key", async () => {
  const left = await retainedAfterSweep(
    [
      { owner: 'key_a', bytes: 60, ...endedOnly(1) },
      { owner: 'key_a', bytes: 10, ...endedOnly(2) },
    ],
    { ofKey: 50, inAll: 100 },
  );
  expect(left).toEqual(['job_0']);
});

test('a key whose unfinished jobs exceed its quota does not affect other keys', async () => {
  const left = await retainedAfterSweep(
    [
      { owner: 'key_a', bytes: 900, status: 'running', ended_at: null },
      { owner: 'key_b', bytes: 40, ...endedOnly(1) },
    ],
    { ofKey: 50, inAll: 100 },
  );
  expect(left).toEqual(['job_0', 'job_1']);
});

test('checkpoints that are being published are not removed', async () => {
  const jobs = [1, 2, 3].map((hours) => ({ owner: 'key_a', ...endedOnly(hours) }));
  expect(await retainedAfterSweep(jobs, { ofKey: 500, inAll: 1e9 }, ['job_2'])).toEqual(['job_0', 'job_2']);
});

test('checkpoints that are being published outlive their time, and the record of their job', async () => {
  const recent = { owner: 'key_a', ...endedOnly(1) };
  const expired = { owner: 'key_a', ...endedOnly(48) };
  const [old, published] = ['job_0', 'job_1'];
  expect(await retainedAfterSweep([expired, expired, recent], QUOTAS, [published])).toEqual([published, 'job_2']);
  for (const id of [old, published]) await mkdir(path.join(dataDir, 'jobs', id, 'checkpoints'), { recursive: true });
  const store: SweptStore = {
    getJob: async () => null,
    checkpoints: {
      list: async () => [],
      forget: async () => false,
      jobsBeingPublished: async () => new Set([published]),
    },
    whileEnded: async () => null,
  };
  expect(await sweepsOf().sweep(store)).toBe(2);
  expect(await readdir(path.join(dataDir, 'jobs'))).toEqual([published]);
});

test('checkpoints on this host count even if the record lists none, as after another host removed its own', async () => {
  const jobs = [endedOnly(1), endedOnly(2)].map((ended, i) => ({
    id: `job_${i}`,
    status: 'failed',
    attempts: 1,
    ...ended,
  }));
  for (const { id } of jobs) {
    await mkdir(path.join(dataDir, 'jobs', id, 'checkpoints'), { recursive: true });
    await writeFile(path.join(dataDir, 'jobs', id, 'checkpoints/step-0000000001.safetensors'), Buffer.alloc(600));
  }
  await sweepsOf().sweep({
    getJob: async (id) => (jobs.find((job) => job.id === id) as Job | undefined) ?? null,
    checkpoints: { list: async () => [], forget: async () => true, jobsBeingPublished: async () => new Set() },
    whileEnded: async (_, __, work) => await work(),
  });
  expect(await readdir(path.join(dataDir, 'jobs'))).toEqual(['job_0']);
});

describe('where hosts share a store', () => {
  const [ENDED, FORGOTTEN, RUNNING, DELETED] = ['job_ended', 'job_forgotten', 'job_running', 'job_deleted'] as const;
  const known: Partial<Job>[] = [
    { id: ENDED, status: 'failed', ...endedOnly(1) },
    { id: FORGOTTEN, status: 'failed', ...endedOnly(2) },
    { id: RUNNING, status: 'running', ended_at: null },
  ];
  const recorded = new Map([[ENDED, 600]] as [string, number][]);
  const store: SweptStore = {
    getJob: async (id) => (known.find((job) => job.id === id) as Job | undefined) ?? null,
    checkpoints: {
      list: async (id) => (recorded.has(id) ? [{ bytes: recorded.get(id) }] : []) as Checkpoint[],
      forget: async (id) => recorded.delete(id),
      jobsBeingPublished: async () => new Set(),
    },
    whileEnded: async (id, _, work) => (id === RUNNING ? null : await work()),
  };
  const localJobs = async () => (await readdir(path.join(dataDir, 'jobs'))).sort();

  test('each removes its own copies of what another has removed; one removes from the store for all', async () => {
    const bundles = await openBundleStore({ root: path.join(dataDir, 'shared'), kind: 'checkpoints' });
    const hosts = Array.from({ length: 2 }, () => new CheckpointMirror(bundles));
    const sweeps = sweepsOf(QUOTAS, new JobFolders({ dataDir, mirror: hosts[0]! }));
    for (const id of [ENDED, FORGOTTEN, RUNNING, DELETED]) {
      const checkpoints = path.join(dataDir, 'jobs', id, 'checkpoints');
      await mkdir(checkpoints, { recursive: true });
      await writeFile(path.join(checkpoints, 'step-0000000001.safetensors'), Buffer.alloc(600));
      await hosts[1]!.store(id, checkpoints);
    }
    // Of a job that has no folder here.
    await hosts[1]!.store('job_elsewhere', path.join(dataDir, 'jobs', ENDED, 'checkpoints'));

    expect(await sweeps.sweepCopies(store)).toBe(2);
    expect(await localJobs()).toEqual([ENDED, RUNNING]);
    // The record of a worker that died may list fewer than there are: the store keeps them.
    expect((await hosts[0]!.jobs()).sort()).toEqual(['job_elsewhere', ENDED, FORGOTTEN, RUNNING]);

    // Beside the unfinished job there is no space for those that have ended.
    expect(await sweeps.sweep(store)).toBe(3);
    expect(await hosts[0]!.jobs()).toEqual([RUNNING]);
    expect(await localJobs()).toEqual([RUNNING]);
  });
});

test('a late prepare call removes no files of the next attempt', async () => {
  const folders = new JobFolders({ dataDir });
  const attempt = (number: number) => ({ job: { id: ID }, number }) as JobAttempt;
  await mkdir(inJob('attempt-1'), { recursive: true });
  await folders.prepare(attempt(3));
  await folders.prepare(attempt(2));
  expect((await readdir(inJob())).sort()).toEqual(['attempt-2', 'attempt-3', 'checkpoints']);
});
