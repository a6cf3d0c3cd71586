import { expect, test } from 'vitest';
import { mapWithConcurrency, Semaphore } from './calls.js';

test('further calls wait in their order; one that fails or leaves holds up no other', async () => {
  const mutex = new Semaphore(1);
  const begun: string[] = [];
  const finish = new Map<string, (error?: Error) => void>();
  const call = (name: string, signal?: AbortSignal) =>
    mutex.run(async () => {
      begun.push(name);
      await new Promise<void>((resolve, reject) => {
        finish.set(name, (error) => (error === undefined ? resolve() : reject(error)));
      });
    }, signal);
  const leaving = new AbortController();
  const [first, second, third] = [call('first'), call('second', leaving.signal), call('third')];
  expect([begun, mutex.waiting]).toEqual([['first'], 2]);
  leaving.abort(new Error('left'));
  await expect(second).rejects.toThrow('left');
  finish.get('first')!(new Error('broken'));
  await expect(first).rejects.toThrow('broken');
  expect(begun).toEqual(['first', 'third']);
  finish.get('third')!();
  await third;
  expect(await mutex.run(async () => 'free')).toBe('free');
});

test('a few run at a time, and the results keep the order of the items', async () => {
  let running = 0;
  let most = 0;
  const results = await mapWithConcurrency([5, 1, 4, 2, 3, 0], 2, async (item) => {
    most = Math.max(most, ++running);
    for (let turn = 0; turn < item; turn++) await new Promise((resolve) => setImmediate(resolve));
    running--;
    return item * 10;
  });
  expect(results).toEqual([50, 10, 40, 20, 30, 0]);
  expect(most).toBe(2);
});

test('after an error no call starts, and those that run finish first', async () => {
  const ended: number[] = [];
  const mapping = mapWithConcurrency([0, 1, 2, 3, 4, 5], 2, async (item) => {
    if (item === 1) throw new Error('one fails');
    await new Promise((resolve) => setImmediate(resolve));
    ended.push(item);
  });
  await expect(mapping).rejects.toThrow('one fails');
  expect(ended).toEqual([0]);
  expect(await mapWithConcurrency([], 3, async () => 1)).toEqual([]);
});
