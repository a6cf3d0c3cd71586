import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { chosenJobs, forEachJob, toggledJob } from './chosen-jobs.js';

const id = (digit: number) => `job_${String(digit).repeat(24)}`;

test('the chosen jobs are only ids of jobs, each once, and not too many', () => {
  expect(chosenJobs(null)).toEqual([]);
  expect(chosenJobs(`${id(1)},${id(2)},${id(1)},../x,job_1,`)).toEqual([id(1), id(2)]);
  expect(chosenJobs([1, 2, 3, 4, 5, 6, 7].map(id).join())).toHaveLength(6);
});

test('a job is added or removed', () => {
  expect(toggledJob([id(1)], id(2))).toEqual([id(1), id(2)]);
  expect(toggledJob([id(1), id(2)], id(1))).toEqual([id(2)]);
});

test('what is refused for one job is done with the others, and said of it', async () => {
  const done: string[] = [];
  const refused = await forEachJob(['a', 'b', 'c'], async (id) => {
    if (id === 'b') throw new ProductError('job_not_cancellable', 'It has ended.');
    done.push(id);
  });
  expect(done.sort()).toEqual(['a', 'c']);
  expect(refused).toEqual([{ id: 'b', message: 'It has ended.' }]);
});

test('another error ends it', async () => {
  const left = new Error('left');
  await expect(forEachJob(['a'], () => Promise.reject(left))).rejects.toBe(left);
});
