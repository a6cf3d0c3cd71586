import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Job } from '@lorasmith/contracts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createJobFolders } from '../src/job-folders.js';

const ID = 'job_0123456789abcdef01234567';
const HOUR_MS = 3_600_000;

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-folders-'));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

const inJob = (...parts: string[]) => path.join(dataDir, 'jobs', ID, ...parts);

/** As the record of the job says at the moment of a look. */
const endedJob = (hoursAgo: number): Job =>
  ({
    id: ID,
    status: 'cancelled',
    attempts: 2,
    ended_at: new Date(Date.now() - hoursAgo * HOUR_MS).toISOString(),
  }) as Job;

/** A sweep that looks, and then the job is resumed before it goes on. */
async function sweepOvertaken(job: Job, resume: () => Promise<void>): Promise<void> {
  const folders = createJobFolders({ dataDir, keptMs: 24 * HOUR_MS });
  const getJob = async () => {
    await resume();
    return job;
  };
  await folders.sweep({ getJob, forgetCheckpoints: async () => false });
}

test('a sweep takes nothing from the attempt of a job that was resumed after its look', async () => {
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

test('the checkpoints of a job that was resumed at the end of their time stay', async () => {
  await mkdir(inJob('checkpoints'), { recursive: true });
  await sweepOvertaken(endedJob(48), async () => {
    await mkdir(inJob('attempt-3'));
  });
  expect((await readdir(inJob())).sort()).toEqual(['attempt-3', 'checkpoints']);
});
