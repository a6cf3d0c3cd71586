import { ProductError } from '@lorasmith/contracts';
import { sleep } from '../http-transport.js';

/** Waits before a call is repeated. */
export type Wait = (ms: number, signal?: AbortSignal) => Promise<void>;

/** Makes a call; where the key has reached its calls per minute, again once that is over. @throws errors of the call */
export type Patience = <Result>(call: () => Promise<Result>) => Promise<Result>;

/** The minute of the limit is over after some of these. */
const DELAY_MS = 10_000;
const ATTEMPTS = 10;

/** The patience of an import with this service: an account of some hundred jobs takes more calls than a key has in a minute. */
export function createPatience(signal: AbortSignal | undefined, wait: Wait = sleep): Patience {
  return async (call) => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await call();
      } catch (error) {
        const isLimited = error instanceof ProductError && error.code === 'too_many_requests';
        if (!isLimited || attempt === ATTEMPTS) throw error;
        await wait(DELAY_MS, signal);
      }
    }
  };
}
