import { expect, test } from 'vitest';
import { unlessStopped } from './stop-signal.js';

const nothing = () => {};

test('work that is not stopped gives its result, or its error', async () => {
  const { signal } = new AbortController();
  expect(await unlessStopped(Promise.resolve(7), signal, nothing)).toBe(7);
  await expect(unlessStopped(Promise.reject(new Error('broken')), signal, nothing)).rejects.toThrow('broken');
});

test('stopped work is not awaited; its late result is passed on', async () => {
  const controller = new AbortController();
  const { promise, resolve } = withResolvers<string>();
  const { promise: late, resolve: onLate } = withResolvers<string>();
  const waiting = unlessStopped(promise, controller.signal, onLate);
  controller.abort('cancel');
  expect(await waiting).toBeNull();
  resolve('after all');
  expect(await late).toBe('after all');
});

test('work that was stopped before it began is not waited for, and may go wrong unheard', async () => {
  const { promise, reject } = withResolvers<string>();
  expect(await unlessStopped(promise, AbortSignal.abort('shutdown'), nothing)).toBeNull();
  reject(new Error('too late'));
  await promise.catch(nothing);
});

/** Promise.withResolvers, which Node 20 has not. */
function withResolvers<Value>() {
  let resolve: (value: Value) => void = nothing;
  let reject: (reason: Error) => void = nothing;
  const promise = new Promise<Value>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
