import { setTimeout as sleep } from 'node:timers/promises';
import { untilAborted } from '@lorasmith/concurrency';
import type { JobAttempt, JobAttempts } from '@lorasmith/queue';
import type { StopReason } from '@lorasmith/training';

export interface StopSignalOptions {
  attempts: Pick<JobAttempts, 'check'>;
  attempt: JobAttempt;
  /** The signal of the worker. Its reason is a {@link StopReason}. */
  signal: AbortSignal;
  /** Time between two looks at the record; a cancel or a pause takes effect after it at the latest. */
  watchIntervalMs: number;
  /** The time for the whole attempt. */
  jobTimeoutMs: number;
  onError: (error: unknown) => void;
}

/** Everything that can stop an attempt before it has finished, in one signal, and what its user asked for, in another. */
export interface StopSignal {
  /** Its reason is a {@link StopReason}. */
  signal: AbortSignal;
  /** Aborted when the user of the job has asked for a pause. */
  pause: AbortSignal;
  stop(reason: StopReason): void;
  /** Stops looking at the record and at the clock. */
  close(): void;
}

export function openStopSignal(options: StopSignalOptions): StopSignal {
  const { attempts, attempt, watchIntervalMs, jobTimeoutMs, onError } = options;
  const stopping = new AbortController();
  const pausing = new AbortController();
  const closing = new AbortController();
  const stop = (reason: StopReason) => stopping.abort(reason);

  // A look costs one small command; unlike a message it cannot be lost.
  const watch = async () => {
    for (;;) {
      await sleep(watchIntervalMs, undefined, { signal: closing.signal });
      const answer = await attempts.check(attempt).catch(onError);
      if (closing.signal.aborted) return;
      if (answer === 'cancel-requested') return stop('cancel');
      if (answer === 'stale') return stop('lost-job');
      if (answer === 'pause-requested') pausing.abort();
    }
  };
  // It rejects only when closing ends the sleep.
  watch().catch(() => {});
  const timer = setTimeout(() => stop('time-limit'), jobTimeoutMs);
  return {
    signal: AbortSignal.any([options.signal, stopping.signal]),
    pause: pausing.signal,
    stop,
    close() {
      clearTimeout(timer);
      closing.abort();
    },
  };
}

/**
 * The result of the work, or null as soon as the signal is aborted; the work then continues by itself.
 * @param onLate - Gets a result that comes after that.
 */
export async function unlessStopped<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
  onLate: (result: Result) => void,
): Promise<Result | null> {
  const result = await untilAborted(work, signal);
  // After a stop its errors no longer matter.
  if (result === null) work.then(onLate, () => {});
  return result;
}
