import type { JobAttempt, JobAttempts } from '@lorasmith/job-store';
import type { StopReason } from './trainer/messages.js';
import { watchAttempt } from './watch-attempt.js';

export interface StopSignalOptions {
  attempts: Pick<JobAttempts, 'check'>;
  attempt: JobAttempt;
  /** Of the worker. */
  signal: AbortSignal;
  /** @see watchAttempt */
  watchIntervalMs: number;
  /** For the whole attempt. */
  jobTimeoutMs: number;
  onError: (error: unknown) => void;
}

/** Everything that may end an attempt before its time, in one signal. */
export interface StopSignal {
  /** Its reason is a {@link StopReason}. */
  signal: AbortSignal;
  stop(reason: StopReason): void;
  /** Looks no further. */
  end(): void;
}

export function openStopSignal(options: StopSignalOptions): StopSignal {
  const { attempts, attempt, watchIntervalMs, jobTimeoutMs, onError } = options;
  const stopping = new AbortController();
  const stop = (reason: StopReason) => stopping.abort(reason);
  const endWatch = watchAttempt({ attempts, attempt, intervalMs: watchIntervalMs, onStop: stop, onError });
  const outOfTime = setTimeout(() => stop('time-limit'), jobTimeoutMs);
  return {
    signal: AbortSignal.any([options.signal, stopping.signal]),
    stop,
    end() {
      clearTimeout(outOfTime);
      endWatch();
    },
  };
}

/**
 * What the work comes to, or null as soon as the signal is aborted: then it goes on by itself.
 * @param onLate - Gets what it came to after that.
 */
export async function unlessStopped<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
  onLate: (result: Result) => void,
): Promise<Result | null> {
  let onAbort = () => {};
  const stopped = new Promise<null>((resolve) => {
    onAbort = () => resolve(null);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) resolve(null);
  });
  try {
    const result = await Promise.race([work, stopped]);
    // What went wrong after a stop matters to nobody.
    if (result === null) work.then(onLate, () => {});
    return result;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
