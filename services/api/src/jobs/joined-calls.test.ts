import { expect, test } from 'vitest';
import { createJoinedCalls } from './joined-calls.js';

test('calls of one name at one time are one; afterwards they are made anew', async () => {
  const joined = createJoinedCalls();
  let made = 0;
  let finish = () => {};
  const call = () =>
    new Promise<number>((resolve) => {
      finish = () => resolve(++made);
    });
  const both = [joined('a', call), joined('a', call)];
  const other = joined('b', async () => 'another');
  finish();
  expect(await Promise.all(both)).toEqual([1, 1]);
  expect(await other).toBe('another');
  const again = joined('a', call);
  finish();
  expect(await again).toBe(2);
});

test('what goes wrong goes wrong for all who wait, and may go well the next time', async () => {
  const joined = createJoinedCalls();
  const fail = async () => {
    throw new Error('no');
  };
  const both = await Promise.allSettled([joined('a', fail), joined('a', fail)]);
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await joined('a', async () => 'yes')).toBe('yes');
});
