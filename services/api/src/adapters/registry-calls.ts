import { AsyncLocalStorage } from 'node:async_hooks';
import { Agent, type Dispatcher } from 'undici';

const BODY_TIMEOUT_MS = 120_000;
const CONNECT_TIMEOUT_MS = 2_000;

export interface ForwardingPool {
  /** Maximum connections to the registry; null: no limit. */
  connections: number | null;
  /** Maximum time until the registry starts to answer. */
  headersTimeout: number;
}

/** Connections to the registry, for reply-from. */
export interface RegistryCalls {
  request: Dispatcher['request'];
  destroy(): Promise<void>;
  /** Aborts calls made by `work` when the signal is aborted, because reply-from has no such option. */
  abortedBy<Result>(signal: AbortSignal, work: () => Result): Result;
}

export function createRegistryCalls(pool: ForwardingPool): RegistryCalls {
  const agent = new Agent({
    ...pool,
    pipelining: 1,
    bodyTimeout: BODY_TIMEOUT_MS,
    connect: { timeout: CONNECT_TIMEOUT_MS },
  });
  const signals = new AsyncLocalStorage<AbortSignal>();
  const request = (options: Dispatcher.RequestOptions, callback: Callback) =>
    agent.request({ ...options, signal: signals.getStore() ?? null }, callback);
  return {
    request: request as Dispatcher['request'],
    destroy: () => agent.destroy(),
    abortedBy: (signal, work) => signals.run(signal, work),
  };
}

type Callback = (error: Error | null, answer: Dispatcher.ResponseData) => void;
