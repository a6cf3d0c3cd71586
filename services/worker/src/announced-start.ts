import { Alarm } from '@lorasmith/concurrency';
import type { WorkerStartPhase } from '@lorasmith/contracts';
import type { WorkerStarts } from '@lorasmith/queue';

const ANNOUNCE_EVERY_MS = 5_000;

/** The start of this worker, which waiting jobs give as their reason. */
export interface AnnouncedStart {
  enter(phase: WorkerStartPhase): void;
  /** The worker takes jobs from now on, or ends. */
  end(): Promise<void>;
}

/** Says again and again what the worker does, until it has started. A Redis that is away delays that, and nothing else. */
export function announceStart(starts: Pick<WorkerStarts, 'announce' | 'end'>, workerName: string): AnnouncedStart {
  const alarm = new Alarm();
  let phase: WorkerStartPhase = 'starting';
  let hasEnded = false;
  const announcing = (async () => {
    while (!hasEnded) {
      await starts.announce(workerName, phase).catch(() => {});
      if (!hasEnded) await alarm.wait(ANNOUNCE_EVERY_MS);
    }
    await starts.end(workerName).catch(() => {});
  })();
  return {
    enter(next) {
      phase = next;
      alarm.ring();
    },
    async end() {
      hasEnded = true;
      alarm.ring();
      await announcing;
    },
  };
}
