import { setTimeout as sleep } from 'node:timers/promises';
import type { JobAttempt, JobAttempts } from '@lorasmith/job-store';
import type { StopReason } from './trainer/messages.js';

export interface WatchAttemptOptions {
  attempts: Pick<JobAttempts, 'check'>;
  attempt: JobAttempt;
  /** Time between two looks; a cancel takes effect after it at the latest. */
  intervalMs: number;
  onStop: (reason: StopReason) => void;
  onError: (error: unknown) => void;
}

/**
 * Looks every now and then whether the job is to be cancelled or is another worker's by now, and says so once. A look
 * costs one small command; unlike a message it cannot be lost.
 * @returns ends the watching
 */
export function watchAttempt(options: WatchAttemptOptions): () => void {
  const { attempts, attempt, intervalMs, onStop, onError } = options;
  const over = new AbortController();

  const watch = async () => {
    for (;;) {
      await sleep(intervalMs, undefined, { signal: over.signal });
      const answer = await attempts.check(attempt).catch(onError);
      if (over.signal.aborted) return;
      if (answer === 'cancel-requested') return onStop('cancel');
      if (answer === 'stale') return onStop('lost-lock');
    }
  };
  // Only the end of the watching ends the sleep early.
  watch().catch(() => {});
  return () => over.abort();
}
