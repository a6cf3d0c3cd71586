import { expect, test } from 'vitest';
import { SingleFlight } from './single-flight.js';

test('concurrent calls with one key run once, and a later call runs again', async () => {
  const flight = new SingleFlight<unknown>();
  let made = 0;
  let finish = () => {};
  const call = () =>
    new Promise<number>((resolve) => {
      finish = () => resolve(++made);
    });
  const both = [flight.run('a', call), flight.run('a', call)];
  const other = flight.run('b', async () => 'another');
  finish();
  expect(await Promise.all(both)).toEqual([1, 1]);
  expect(await other).toBe('another');
  const again = flight.run('a', call);
  finish();
  expect(await again).toBe(2);
});

test('a failure rejects every waiting call, and the next call runs again', async () => {
  const flight = new SingleFlight<unknown>();
  const fail = async () => {
    throw new Error('no');
  };
  const both = await Promise.allSettled([flight.run('a', fail), flight.run('a', fail)]);
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await flight.run('a', async () => 'yes')).toBe('yes');
});
