import type { NewJobEvent } from '@lorasmith/contracts';

/** Steps are written at most this often: a small model makes hundreds a second, which nobody reads. */
const STEP_INTERVAL_MS = 1_000;

export interface EventRecorder {
  /** Writes the event after those before it, or leaves it out if it is one step among many. */
  add(event: NewJobEvent): void;
  /** Resolves when all is written. */
  flush(): Promise<void>;
}

/** Writes the events of a training in their order. The first step, the last one, and what is no step are all written. */
export function createEventRecorder(options: {
  write: (event: NewJobEvent) => Promise<void>;
  onError: (error: unknown) => void;
  stepIntervalMs?: number;
}): EventRecorder {
  const { write, onError, stepIntervalMs = STEP_INTERVAL_MS } = options;
  let written = Promise.resolve();
  let lastStepAt = Number.NEGATIVE_INFINITY;

  const isDue = (event: NewJobEvent) => {
    if (event.type !== 'step-finished') return true;
    const now = performance.now();
    if (event.data.step < event.data.total_steps && now - lastStepAt < stepIntervalMs) return false;
    lastStepAt = now;
    return true;
  };

  return {
    add(event) {
      if (isDue(event)) written = written.then(() => write(event)).catch(onError);
    },
    flush: () => written,
  };
}
