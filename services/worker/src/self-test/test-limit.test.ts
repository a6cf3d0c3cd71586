import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { TestLimit } from './test-limit.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

test('a limit is over after its time, and later by what it was extended', () => {
  const limit = new TestLimit(1_000);
  vi.advanceTimersByTime(999);
  limit.extend(500);
  vi.advanceTimersByTime(500);
  expect(limit.signal.aborted).toBe(false);
  limit.extend(2_000);
  vi.advanceTimersByTime(2_000);
  expect(limit.signal.aborted).toBe(false);
  vi.advanceTimersByTime(1);
  expect(limit.signal.aborted).toBe(true);
});

test('a limit that is stopped is never over', () => {
  const limit = new TestLimit(1_000);
  limit.stop();
  vi.advanceTimersByTime(10_000);
  expect(limit.signal.aborted).toBe(false);
});
