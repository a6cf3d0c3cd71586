import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { interruption } from '../../scripts/stack/interruption.mjs';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let before: unknown[];
beforeEach(() => {
  before = SIGNALS.flatMap((name) => process.rawListeners(name));
  vi.useFakeTimers({ toFake: ['performance'] });
  // Only records the call, so that the test process continues.
  vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  for (const name of SIGNALS) {
    for (const listener of process.rawListeners(name)) {
      if (!before.includes(listener)) process.off(name, listener as () => void);
    }
  }
});

test('a signal that npm repeats counts once; a later one ends the process at once', () => {
  const signal = interruption();
  process.emit('SIGINT');
  expect(signal.aborted).toBe(true);
  vi.advanceTimersByTime(900);
  process.emit('SIGINT');
  expect(process.exit).not.toHaveBeenCalled();
  vi.advanceTimersByTime(200);
  process.emit('SIGINT');
  expect(process.exit).toHaveBeenCalledExactlyOnceWith(130);
});
