import type { BaseQuantization, JobId, ModelName, TrainingSettings } from '@lorasmith/contracts';
import { type Line, linesInOrder, type QueueState, useOf } from './fair-order.js';
import type { QueueEntry, WaitingJob } from './queue-entry.js';

/** The base model that a worker has in memory. */
export interface BaseInMemory {
  /** Null: nothing. */
  baseModel: ModelName | null;
  /** The requested precisions that train on it. */
  precisions: readonly TrainingSettings['precision'][];
  quantization: BaseQuantization;
}

/** The jobs that a worker can take now. */
export interface Appetite extends BaseInMemory {
  /** It holds no job, and takes any; otherwise only jobs on what it has in memory. */
  isIdle: boolean;
}

/** Another worker that has a base in memory and a free place. */
export interface WarmWorker {
  base: BaseInMemory;
  /** Whether it holds no job. */
  isIdle: boolean;
  /** The memory of its machine, as that of the chooser. */
  memory: number | null;
}

/** A job that the worker holds. */
export interface HeldJob {
  id: JobId;
  entry: QueueEntry;
  /** When the worker took it, in milliseconds. */
  since: number;
  /** It was asked to give up its place. */
  isPausing: boolean;
}

/** A worker that looks for its next job. */
export interface Chooser {
  /** Null: it can take nothing now. */
  appetite: Appetite | null;
  /** The base in memory when it could last take a job beside those that it holds; null: it could not since. */
  loaded: BaseInMemory | null;
  held: readonly HeldJob[];
  /** How many jobs it may hold. */
  slots: number;
  /** The memory of its machine for a trainer, in bytes; null: it was not measured. */
  memory: number | null;
  /** When it took the first job on its present base model, in milliseconds. */
  baseSince: number;
  /** The job for which it has paused others; null: none. */
  target: JobId | null;
  /** The jobs for which other workers have paused some. */
  targetsOfOthers: ReadonlySet<JobId>;
  /** The other workers that could take a job without loading its base. */
  warm: readonly WarmWorker[];
}

export type Choice =
  | { action: 'take'; waiting: WaitingJob }
  /** Pauses jobs that it holds, so that it can take the job `target`. */
  | { action: 'pause'; held: readonly HeldJob[]; target: KnownJob }
  /** @param untilMs - When to look again although nothing has happened; null: no need. */
  | { action: 'wait'; untilMs: number | null };

export type KnownJob = WaitingJob & { job: QueueEntry };

/** The part of a turn after which a key with several jobs on the worker gives a place to a key with no running job. */
const SHORT_TURN = 1 / 20;
/**
 * How long a new job is left to a worker that has its base in memory and a free place. It takes the job at once, unless it has just died: so this is
 * longer than its answer takes, and less than loading a base model.
 */
const LEFT_TO_WARM_MS = 2_000;

/**
 * The next action of a worker. It takes the first job of the fair order that fits. A job on another base model is passed over by
 * jobs on the one in memory for at most a turn, counted from when it was sent or from when the worker changed its base model;
 * then the worker pauses what it holds. While it has no free place, it pauses one job: after a twentieth of a turn, of a key of
 * which it holds several, for a key of which no worker holds any; after a turn, for the same key, for one that has used less, or for
 * an overdue one. A new job is left to a worker that has its base in memory and a free place, for a moment.
 */
export function chooseNext(
  queue: Pick<QueueState, 'now' | 'keys'> & { waiting: readonly WaitingJob[] },
  worker: Chooser,
  turnMs: number,
): Choice {
  const { now } = queue;
  const { appetite, held, target } = worker;
  const stray = queue.waiting.find(({ job }) => job === null);
  if (stray !== undefined && appetite !== null) return { action: 'take', waiting: stray };

  // Others have the memory for the rest.
  const known = queue.waiting.filter((one): one is KnownJob => one.job !== null && fitsInto(one.job, worker.memory));
  const soon = new WaitEnd(now);
  const isLeft = ({ job }: KnownJob) =>
    appetite !== null &&
    !isOnBase({ job }, appetite) &&
    worker.warm.some((other) => canTakeWarm(other, job)) &&
    !soon.at(job.queued_at + Math.min(LEFT_TO_WARM_MS, turnMs * SHORT_TURN));
  const ready = known.filter((one) => soon.at(one.job.not_before ?? 0) && !isLeft(one));

  const lines = linesInOrder({ ...queue, waiting: ready }, turnMs);
  const first = lines[0]?.jobs[0];
  if (first === undefined) return soon.choice();

  const aimed = ready.find(({ id }) => id === target);
  const isPausing = held.some((one) => one.isPausing);
  if (appetite !== null) {
    if (aimed !== undefined && fits(aimed, appetite)) return { action: 'take', waiting: aimed };
    // What it is pausing makes way for its target alone.
    if (aimed !== undefined && isPausing) return soon.choice();
    const turnEnds = Math.max(worker.baseSince, first.job.queued_at) + turnMs;
    if (now < turnEnds) {
      const fitting = firstOf(lines, (one) => isOnBase(one, appetite) && fits(one, appetite));
      if (fitting !== undefined) return { action: 'take', waiting: fitting };
    }
    if (fits(first, appetite)) return { action: 'take', waiting: first };
  }

  // Nothing can be taken now. One change at a time.
  if (held.length === 0 || isPausing) return soon.choice();
  const open = (one: KnownJob) => !worker.targetsOfOthers.has(one.id);
  const { loaded } = worker;
  const beside = (one: KnownJob) =>
    !one.job.starts_alone &&
    (loaded === null ? held.some(({ entry }) => isSameBase(entry, one.job)) : isOnBase(one, loaded));

  if (!beside(first) && open(first)) {
    if (soon.at(Math.max(worker.baseSince, first.job.queued_at) + turnMs)) {
      return { action: 'pause', held, target: first };
    }
  }
  const next = firstOf(lines, (one) => beside(one) && open(one));
  if (next !== undefined && held.length >= worker.slots) {
    const { isOverdue } = lines.find(({ key }) => key === next.job.key)!;
    const ripe = held.filter(({ entry: { key }, since }) => {
      const isRich = useOf(queue, next.job.key).held === 0 && countOf(held, key) > 1;
      const isNext = isRich || isOverdue || key === next.job.key || usesMore(queue, key, next.job.key);
      return isNext && soon.at(Math.max(next.job.queued_at, since) + (isRich ? turnMs * SHORT_TURN : turnMs));
    });
    const [giver] = ripe.sort(
      (one, other) =>
        countOf(held, other.entry.key) - countOf(held, one.entry.key) ||
        useOf(queue, other.entry.key).used - useOf(queue, one.entry.key).used ||
        one.since - other.since,
    );
    if (giver !== undefined) return { action: 'pause', held: [giver], target: next };
  }
  return soon.choice();
}

function usesMore(queue: Pick<QueueState, 'keys'>, key: string, other: string): boolean {
  return useOf(queue, key).used > useOf(queue, other).used;
}

function countOf(held: readonly HeldJob[], key: string): number {
  return held.filter(({ entry }) => entry.key === key).length;
}

function firstOf(lines: Line<KnownJob>[], isWanted: (waiting: KnownJob) => boolean): KnownJob | undefined {
  for (const { jobs } of lines) {
    const wanted = jobs.find(isWanted);
    if (wanted !== undefined) return wanted;
  }
  return undefined;
}

/** Whether a worker with this appetite can take the job. */
export function fits({ job }: WaitingJob, appetite: Appetite): boolean {
  if (job === null || appetite.isIdle) return true;
  return !job.starts_alone && isOnBase({ job }, appetite);
}

/** Whether a worker can take the job without loading its base. */
function canTakeWarm({ base, isIdle, memory }: WarmWorker, job: QueueEntry): boolean {
  return isOnBase({ job }, base) && (isIdle || !job.starts_alone) && fitsInto(job, memory);
}

/** Whether a machine with this memory can train the job, as far as both are known. */
export function fitsInto({ memory }: Pick<QueueEntry, 'memory'>, machineMemory: number | null): boolean {
  return machineMemory === null || (memory ?? 0) <= machineMemory;
}

/** Whether the job trains on what a worker has in memory. */
export function isOnBase({ job }: { job: QueueEntry }, { baseModel, precisions, quantization }: BaseInMemory): boolean {
  const isSameForm = precisions.includes(job.precision) && job.base_quantization === quantization;
  return job.base_model === baseModel && isSameForm;
}

function isSameBase(one: QueueEntry, other: QueueEntry): boolean {
  const isSameForm = one.precision === other.precision && one.base_quantization === other.base_quantization;
  return one.base_model === other.base_model && isSameForm;
}

/** Collects the next time at which waiting is over. */
class WaitEnd {
  readonly #nowMs: number;
  #untilMs: number | null = null;

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  /** Whether the time has come; otherwise it is one to wake up at. */
  at(timeMs: number): boolean {
    if (timeMs <= this.#nowMs) return true;
    this.#untilMs = Math.min(this.#untilMs ?? timeMs, timeMs);
    return false;
  }

  choice(): Choice {
    return { action: 'wait', untilMs: this.#untilMs };
  }
}
