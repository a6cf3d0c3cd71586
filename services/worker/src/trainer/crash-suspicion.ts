/**
 * The runs that are suspected of crashing their trainer.
 *
 * If the trainer of several runs crashes, hangs or runs out of memory, each of them is suspected. A suspect runs alone until it
 * has done one more step than it had. If its trainer crashes with it alone, it is the culprit, and the others are no longer
 * suspected. If all pass, it was what they took together: should that happen again, at most half as many run from then on.
 */
export interface Suspicion {
  /** The suspects by number, with the step that each must pass. */
  readonly suspects: ReadonlyMap<number, number>;
  /** The most runs at once. */
  readonly limit: number;
  /** All suspects of the last crash have passed. */
  readonly foundNoCulprit: boolean;
}

export type SuspicionEvent =
  /** A run begins; an attempt before has recorded that it is suspected since this step. */
  | { kind: 'began'; run: number; suspectStep: number | null }
  | { kind: 'stepped'; run: number; step: number }
  /**
   * The trainer of a run crashed.
   * - `concurrent`: the count of other runs that it had.
   * - `isFirst`: no other run has reported this crash.
   */
  | { kind: 'crashed'; run: number; step: number; concurrent: number; isFirst: boolean }
  /** `remaining`: how many runs there are still. */
  | { kind: 'left'; run: number; remaining: number };

export function noSuspicion(limit: number): Suspicion {
  return { suspects: new Map(), limit, foundNoCulprit: false };
}

/** @param mostRuns - The limit while nothing has crashed. */
export function suspicionAfter(before: Suspicion, event: SuspicionEvent, mostRuns: number): Suspicion {
  const suspects = new Map(before.suspects);
  switch (event.kind) {
    case 'began':
      if (event.suspectStep === null) return before;
      suspects.set(event.run, event.suspectStep);
      return { ...before, suspects };
    case 'stepped': {
      const suspectStep = suspects.get(event.run);
      if (suspectStep === undefined || event.step <= suspectStep) return before;
      suspects.delete(event.run);
      return { ...before, suspects, foundNoCulprit: suspects.size === 0 };
    }
    case 'crashed':
      return afterCrash(before, event);
    case 'left':
      if (event.remaining === 0) return noSuspicion(mostRuns);
      if (!suspects.delete(event.run)) return before;
      return { ...before, suspects };
  }
}

function afterCrash(before: Suspicion, crash: Extract<SuspicionEvent, { kind: 'crashed' }>): Suspicion {
  const { run, step, concurrent, isFirst } = crash;
  // The culprit's next attempt is alone, too.
  if (concurrent === 0) return { ...before, suspects: new Map([[run, step]]), foundNoCulprit: false };
  const suspects = new Map(before.suspects).set(run, Math.max(step, before.suspects.get(run) ?? 0));
  if (!isFirst) return { ...before, suspects };
  const limit = before.foundNoCulprit ? Math.max(1, Math.floor((concurrent + 1) / 2)) : before.limit;
  return { suspects, limit, foundNoCulprit: false };
}

/** The suspect that may run now: the one whose job was taken first. Null without suspects. */
export function firstSuspect({ suspects }: Suspicion): number | null {
  return suspects.size === 0 ? null : Math.min(...suspects.keys());
}

/** The runs that are newly suspected since a step, or no longer (null). */
export function suspicionChanges(before: Suspicion, after: Suspicion): Map<number, number | null> {
  const changes = new Map<number, number | null>();
  for (const [run, step] of after.suspects) if (before.suspects.get(run) !== step) changes.set(run, step);
  for (const run of before.suspects.keys()) if (!after.suspects.has(run)) changes.set(run, null);
  return changes;
}
