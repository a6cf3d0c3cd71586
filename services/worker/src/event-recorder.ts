import type { EventData, NewJobEvent } from '@lorasmith/contracts';

/** Steps are written at most this often: a small model makes hundreds a second, which nobody reads. */
const STEP_INTERVAL_MS = 1_000;

export interface EventRecorder {
  /** Writes the event after those before it, or leaves it out if it is one step among many. */
  add(event: NewJobEvent): void;
  /** Resolves when all is written, the newest step included. */
  flush(): Promise<void>;
}

/**
 * Writes the events of a training in their order: all that are no steps, and of the steps the first, those that come no
 * sooner than the interval after one that was written, the last planned, and the last before another event or a flush.
 */
export function createEventRecorder(options: {
  write: (event: NewJobEvent) => Promise<void>;
  onError: (error: unknown) => void;
  stepIntervalMs?: number;
}): EventRecorder {
  const { write, onError, stepIntervalMs = STEP_INTERVAL_MS } = options;
  let written = Promise.resolve();
  let lastStepAt = Number.NEGATIVE_INFINITY;
  /** The newest step, where it is not written. */
  let leftOut: NewJobEvent | null = null;

  // The last planned step does not wait for what comes after it, which may be a long evaluation.
  const isDue = ({ step, total_steps: total }: EventData<'step-finished'>) =>
    step === total || performance.now() - lastStepAt >= stepIntervalMs;
  const append = (event: NewJobEvent) => {
    written = written.then(() => write(event)).catch(onError);
  };
  const appendStep = (step: NewJobEvent) => {
    lastStepAt = performance.now();
    leftOut = null;
    append(step);
  };
  const appendLeftOut = () => {
    if (leftOut !== null) appendStep(leftOut);
  };

  return {
    add(event) {
      if (event.type !== 'step-finished') {
        appendLeftOut();
        append(event);
      } else if (isDue(event.data)) {
        appendStep(event);
      } else {
        leftOut = event;
      }
    },
    flush() {
      appendLeftOut();
      return written;
    },
  };
}
