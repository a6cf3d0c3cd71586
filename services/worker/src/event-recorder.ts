import type { EventData, NewJobEvent } from '@lorasmith/contracts';

/** Steps are written at most this often: a small model makes hundreds a second. */
const STEP_INTERVAL_MS = 1_000;
/**
 * And at most after this share of the time so far, so that the stored events of a job reach back to its start: a day of
 * training writes 13,000 steps, a week 19,000.
 */
const SHARE_OF_TIME = 1 / 3_000;

export interface EventRecorder {
  /** Writes the event after those before it, or skips it if it is one step among many. */
  add(event: NewJobEvent): void;
  /** Resolves when everything is written, also the newest step. */
  flush(): Promise<void>;
}

/**
 * Writes the events of a training in their order. Of the steps it writes the first, the last planned, the last before
 * another event or a flush, and between those one per interval, which grows with the time.
 */
export function createEventRecorder(options: {
  write: (event: NewJobEvent) => Promise<void>;
  onError: (error: unknown) => void;
  stepIntervalMs?: number;
  /** The time in milliseconds. */
  now?: () => number;
}): EventRecorder {
  const { write, onError, stepIntervalMs = STEP_INTERVAL_MS, now = () => performance.now() } = options;
  const startedAt = now();
  let written = Promise.resolve();
  let lastStepAt = Number.NEGATIVE_INFINITY;
  /** The newest step, where it was not written. */
  let skipped: NewJobEvent | null = null;

  // The last planned step does not wait for the next event, which may follow a long evaluation.
  const isDue = ({ step, total_steps: total }: EventData<'step-finished'>) =>
    step === total || now() - lastStepAt >= Math.max(stepIntervalMs, (now() - startedAt) * SHARE_OF_TIME);
  const append = (event: NewJobEvent) => {
    written = written.then(() => write(event)).catch(onError);
  };
  const appendStep = (step: NewJobEvent) => {
    lastStepAt = now();
    skipped = null;
    append(step);
  };
  const appendSkipped = () => {
    if (skipped !== null) appendStep(skipped);
  };

  return {
    add(event) {
      if (event.type !== 'step-finished') {
        appendSkipped();
        append(event);
      } else if (isDue(event.data)) {
        appendStep(event);
      } else {
        skipped = event;
      }
    },
    flush() {
      appendSkipped();
      return written;
    },
  };
}
