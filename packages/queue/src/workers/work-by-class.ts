import { fitsInto } from '../queue/choose-next.js';
import type { RemainingWork } from '../queue/queue-forecast.js';

/** The pattern of the name of a class of workers, as a part of others. */
export const WORKER_CLASS_NAME = '[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?';

/** Workers with the same kind of machine, which are started and ended as they are needed. */
export interface WorkerClass {
  name: string;
  /** The memory of such a machine for a trainer, in bytes. */
  memory: number;
}

interface Work {
  jobs: number;
  /** The tokens of jobs that are planned. */
  tokens: number;
  /** The seconds of jobs whose time is known. */
  seconds: number;
}

/** The work of a class of workers. */
export interface ClassWork {
  waiting: Work;
  running: Work;
  /** The number of workers that have something to do; a fraction of one if it is less than the target for each. */
  workersWanted: number;
}

export interface WorkByClassOptions {
  /** The classes in the order in which they are used: a job is for the first with enough memory. */
  classes: readonly WorkerClass[];
  /** The seconds of work for which one worker is wanted. */
  secondsPerWorker: number;
  /** The most jobs that a worker trains at once. */
  slots: number;
}

/**
 * The work that waits for each class and that it trains. What fits no class counts for none.
 *
 * A job is never on two workers, so it wants one at most, however long it takes. Jobs whose time is unknown want a worker for as many as
 * it can train at once, which must be on the same base model in the same form.
 */
export function workByClass(
  jobs: readonly RemainingWork[],
  { classes, secondsPerWorker, slots }: WorkByClassOptions,
): Map<string, ClassWork> {
  const none = (): Work => ({ jobs: 0, tokens: 0, seconds: 0 });
  const found = new Map(classes.map(({ name }) => [name, { waiting: none(), running: none(), workersWanted: 0 }]));
  const unknown = new Map<string, { of: ClassWork; jobs: number }>();
  for (const { entry, workerClass, tokens, seconds } of jobs) {
    const fitting = classes.find(({ memory }) => fitsInto(entry, memory));
    // Until it ends, it is the work of the class that trains it.
    const name = workerClass !== null && found.has(workerClass) ? workerClass : fitting?.name;
    const of = name === undefined ? undefined : found.get(name);
    if (of === undefined) continue;
    const work = workerClass === null ? of.waiting : of.running;
    work.jobs++;
    work.tokens += tokens ?? 0;
    work.seconds += seconds ?? 0;
    if (seconds !== null) {
      // A job that is nearly done still needs its worker.
      of.workersWanted += Math.min(1, Math.max(seconds, 1) / secondsPerWorker);
      continue;
    }
    const base = JSON.stringify([name, entry.base_model, entry.precision, entry.base_quantization]);
    const alike = unknown.get(base) ?? { of, jobs: 0 };
    alike.jobs++;
    unknown.set(base, alike);
  }
  for (const { of, jobs: count } of unknown.values()) of.workersWanted += Math.ceil(count / slots);
  return found;
}
