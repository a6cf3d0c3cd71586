import { expect, test } from 'vitest';
import { createSingleFlight } from './single-flight.js';

test('concurrent calls with one key run once, and a later call runs again', async () => {
  const singleFlight = createSingleFlight();
  let made = 0;
  let finish = () => {};
  const call = () =>
    new Promise<number>((resolve) => {
      finish = () => resolve(++made);
    });
  const both = [singleFlight('a', call), singleFlight('a', call)];
  const other = singleFlight('b', async () => 'another');
  finish();
  expect(await Promise.all(both)).toEqual([1, 1]);
  expect(await other).toBe('another');
  const again = singleFlight('a', call);
  finish();
  expect(await again).toBe(2);
});

test('a failure rejects every waiting call, and the next call runs again', async () => {
  const singleFlight = createSingleFlight();
  const fail = async () => {
    throw new Error('no');
  };
  const both = await Promise.allSettled([singleFlight('a', fail), singleFlight('a', fail)]);
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await singleFlight('a', async () => 'yes')).toBe('yes');
});
