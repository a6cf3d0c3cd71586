import { expect, test } from 'vitest';
import { SharedRounds, SingleFlight } from './calls.js';

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

/** Rounds that end when they are told to. */
function drivenRounds() {
  const ends: PromiseWithResolvers[] = [];
  const rounds = new SharedRounds<number>(async () => {
    const round = ends.length;
    await new Promise<void>((resolve, reject) => ends.push({ resolve, reject }));
    return round;
  });
  return { rounds, ends };
}
interface PromiseWithResolvers {
  resolve: () => void;
  reject: (error: Error) => void;
}
/** Lets what can go on do so. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('calls that come while a round runs share the next one, which begins after them', async () => {
  const { rounds, ends } = drivenRounds();
  const first = rounds.run();
  await settle();
  const later = [rounds.run(), rounds.run()];
  await settle();
  expect(ends.length).toBe(1);
  ends[0]!.resolve();
  expect(await first).toBe(0);
  await settle();
  expect(ends.length).toBe(2);
  ends[1]!.resolve();
  expect(await Promise.all(later)).toEqual([1, 1]);
});

test('a round that fails fails for those who share it, and not for the next ones', async () => {
  const { rounds, ends } = drivenRounds();
  const failing = Promise.allSettled([rounds.run(), rounds.run()]);
  await settle();
  const next = rounds.run();
  ends[0]!.reject(new Error('the store is away'));
  expect((await failing).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  await settle();
  ends[1]!.resolve();
  expect(await next).toBe(1);
});
