import { expect, test } from 'vitest';
import { Semaphore } from './semaphore.js';

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
