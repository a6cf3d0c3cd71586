import { type Job, type JobStatus, ProductError } from '@lorasmith/contracts';
import { beforeEach, expect, test, vi } from 'vitest';
import { showEnded, unwatchEnd, watchEnd, watchedJobs } from './end-notices.js';

const permission = vi.fn(async () => 'granted');
beforeEach(() => {
  for (const id of watchedJobs.get()) unwatchEnd(id);
  permission.mockResolvedValue('granted');
  vi.stubGlobal('Notification', { requestPermission: permission });
  return () => vi.unstubAllGlobals();
});

const shownOf = async (read: (id: string) => JobStatus | Error) => {
  const shown: string[] = [];
  const job = async (id: string) => {
    const answer = read(id);
    if (answer instanceof Error) throw answer;
    return { id, status: answer } as Job;
  };
  await showEnded(job, ({ id }) => shown.push(id));
  return shown;
};

test('the end of a watched job is shown once, and nothing of others', async () => {
  expect(await watchEnd('job_1')).toBe(true);
  await watchEnd('job_2');
  expect(await shownOf((id) => (id === 'job_1' ? 'succeeded' : 'running'))).toEqual(['job_1']);
  expect(watchedJobs.get()).toEqual(['job_2']);
  expect(await shownOf(() => 'failed')).toEqual(['job_2']);
  expect(await shownOf(() => 'failed')).toEqual([]);
});

test('a deleted job is watched no more, and one that could not be read is', async () => {
  await watchEnd('job_1');
  await watchEnd('job_2');
  const deleted = new ProductError('job_not_found', 'There is no such job.');
  expect(await shownOf((id) => (id === 'job_1' ? deleted : new Error('lost')))).toEqual([]);
  expect(watchedJobs.get()).toEqual(['job_2']);
});

test('without the permission nothing is watched', async () => {
  permission.mockResolvedValue('denied');
  expect(await watchEnd('job_1')).toBe(false);
  expect(watchedJobs.get()).toEqual([]);
});
