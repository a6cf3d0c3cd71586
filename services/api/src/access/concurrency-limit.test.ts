import type { KeyId } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { ConcurrencyQueue } from './concurrency-limit.js';

const [ONE, OTHER] = ['key_1', 'key_2'] as unknown as [KeyId, KeyId];
const LIMITS = { own: 2, total: 3 };
const never = () => new AbortController().signal;
const long = { what: 'requests', waitMs: 1e6 };

/** True if the call has its slot, once everything has run that can. */
async function isIn(entered: Promise<unknown>): Promise<boolean> {
  return await Promise.race([entered.then(() => true), new Promise<false>((resolve) => setImmediate(resolve, false))]);
}

test('calls beyond the limit get a place in their order, as soon as there is one', async () => {
  const queue = new ConcurrencyQueue(long);
  const release = await queue.enter(ONE, LIMITS, never());
  await queue.enter(ONE, LIMITS, never());
  const [third, fourth] = [queue.enter(ONE, LIMITS, never()), queue.enter(ONE, LIMITS, never())];
  expect(await isIn(third)).toBe(false);
  // A key that waits holds up no other.
  const ofOther = await queue.enter(OTHER, LIMITS, never());
  release();
  release();
  expect([await isIn(third), await isIn(fourth)]).toEqual([true, false]);
  ofOther();
  expect(await isIn(fourth)).toBe(false);
  (await third)();
  expect(await isIn(fourth)).toBe(true);
});

test('keys take turns, however many calls of one wait', async () => {
  const queue = new ConcurrencyQueue(long);
  const one = { own: 1, total: 1 };
  const order: string[] = [];
  const enter = (key: KeyId, name: string) =>
    queue.enter(key, one, never()).then((release) => {
      order.push(name);
      setImmediate(release);
    });
  const first = await queue.enter(ONE, one, never());
  const calls = [enter(ONE, 'one 1'), enter(ONE, 'one 2'), enter(ONE, 'one 3'), enter(OTHER, 'other 1')];
  calls.push(enter(OTHER, 'other 2'));
  first();
  await Promise.all(calls);
  expect(order).toEqual(['one 1', 'other 1', 'one 2', 'other 2', 'one 3']);
});

test('a call that leaves gives up its turn', async () => {
  const queue = new ConcurrencyQueue(long);
  const release = await queue.enter(ONE, { own: 1, total: 3 }, never());
  const leaving = new AbortController();
  const gone = queue.enter(ONE, { own: 1, total: 3 }, leaving.signal);
  const next = queue.enter(ONE, { own: 1, total: 3 }, never());
  leaving.abort(new Error('left'));
  await expect(gone).rejects.toThrow('left');
  release();
  expect(await isIn(next)).toBe(true);
});

test('a call that waits too long, and one where too many wait, are refused', async () => {
  const brief = new ConcurrencyQueue({ what: 'requests', waitMs: 1 });
  await brief.enter(ONE, { own: 1, total: 3 }, never());
  await expect(brief.enter(ONE, { own: 1, total: 3 }, never())).rejects.toMatchObject({
    code: 'quota_exceeded',
    retryAfterSeconds: 1,
  });
  const full = new ConcurrencyQueue(long);
  const entered = Array.from({ length: 100 }, () => full.enter(ONE, { own: 1, total: 3 }, never()));
  const refused = await Promise.race(entered.map((one) => one.then(() => new Promise(() => {})))).catch((e) => e);
  expect(refused).toMatchObject({ code: 'quota_exceeded' });
  expect(await isIn(full.enter(OTHER, LIMITS, never()))).toBe(true);
});
