import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { shutDownInOrder } from './index.js';

const SIGNALS = ['SIGTERM', 'SIGINT', 'uncaughtException', 'unhandledRejection', 'disconnect'] as const;
const logger = pino({ level: 'silent' });
let listeners: Map<string, unknown[]>;
let exitCode: Promise<number>;

// The test process must survive, so `process.exit` is replaced.
beforeEach(() => {
  listeners = new Map(SIGNALS.map((name) => [name, process.rawListeners(name as 'SIGTERM')]));
  exitCode = new Promise((resolve) => {
    vi.spyOn(process, 'exit').mockImplementation((code) => resolve(Number(code ?? 0)) as never);
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  for (const [name, before] of listeners) {
    for (const listener of process.rawListeners(name as 'SIGTERM')) {
      if (!before.includes(listener)) process.off(name, listener as () => void);
    }
  }
});

test('a signal calls close once and then ends the process', async () => {
  const order: string[] = [];
  shutDownInOrder({
    logger,
    timeoutMs: 5_000,
    close: async () => {
      order.push('close');
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push('closed');
    },
  });
  process.emit('SIGTERM');
  process.emit('SIGTERM');
  process.emit('SIGINT');
  expect(await exitCode).toBe(0);
  expect(order).toEqual(['close', 'closed']);
});

test('a close that hangs is ended after the timeout', async () => {
  shutDownInOrder({ logger, timeoutMs: 30, close: () => new Promise(() => {}) });
  process.emit('SIGTERM');
  expect(await exitCode).toBe(1);
});

test('a close that fails sets the exit code', async () => {
  shutDownInOrder({ logger, timeoutMs: 5_000, close: () => Promise.reject(new Error('no')) });
  process.emit('SIGTERM');
  expect(await exitCode).toBe(1);
});

test('a second Ctrl-C ends the process at once', async () => {
  shutDownInOrder({ logger, timeoutMs: 5_000, close: () => new Promise(() => {}) });
  process.emit('SIGINT');
  process.emit('SIGINT');
  expect(await exitCode).toBe(1);
});

test('an uncaught error also calls close and sets the exit code', async () => {
  let closed = false;
  shutDownInOrder({
    logger,
    timeoutMs: 5_000,
    close: async () => {
      closed = true;
    },
  });
  const listener = process.rawListeners('uncaughtException').at(-1) as (error: Error) => void;
  listener(new Error('a bug'));
  expect(await exitCode).toBe(1);
  expect(closed).toBe(true);
});
