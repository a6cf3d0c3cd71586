import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { forEachJob } from './for-each-job.js';

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
