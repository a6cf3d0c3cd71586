import type { BaseQuantization, JobId, ModelName, TrainingSettings } from '@lorasmith/contracts';
import { type QueueEntry, tokensLeft, type WaitingJob } from './queue-entry.js';

/** The use of the machines by an API key. */
export interface KeyUsage {
  /** Tokens that its jobs have trained, divided by its weight. */
  used: number;
  /** Jobs that workers have leased now. */
  leased: number;
  /** When a worker last gave up a job of it, in milliseconds; 0: never. */
  servedAt: number;
  weight: number;
}

/** A waiting job, of which only its {@link QueueEntry} matters here. */
interface InLine {
  entry: QueueEntry;
}

/** The state of the queue that the order depends on. */
export interface QueueState<Waiting extends InLine = InLine> {
  /** The time in milliseconds. */
  now: number;
  waiting: readonly Waiting[];
  /** The usage by API key; '' for jobs without one. */
  usage: ReadonlyMap<string, KeyUsage>;
}

const NO_USAGE: KeyUsage = { used: 0, leased: 0, servedAt: 0, weight: 1 };

/** The usage of an API key that the state may not know yet. */
function usageOf({ usage }: Pick<QueueState, 'usage'>, key: string): KeyUsage {
  return usage.get(key) ?? NO_USAGE;
}

/** The waiting jobs of an API key, in their order. */
interface Line<Waiting extends InLine> {
  key: string;
  jobs: Waiting[];
  /** True if the key has waited for its time limit while no worker had a job of it. */
  isOverdue: boolean;
}

/** The time limit of a key of which no worker has a job: this number of time slices for each key that has jobs. */
const OVERDUE_SLICES = 4;

/**
 * The lines of the API keys, in the order in which the keys are served next.
 *
 * - Overdue keys are first; the one that has waited longest leads. So no key starves, however much it has used before.
 * - Then come keys of which no worker has a job, then the others, each by the tokens used, divided by the key's weight.
 * - Of equals, the one with the job that has waited longest.
 */
function linesInOrder<Waiting extends InLine>(state: QueueState<Waiting>, timeSliceMs: number): Line<Waiting>[] {
  const lines = new Map<string, Waiting[]>();
  for (const waiting of state.waiting) {
    const line = lines.get(waiting.entry.key);
    if (line === undefined) lines.set(waiting.entry.key, [waiting]);
    else line.push(waiting);
  }
  const busyKeys = [...state.usage].filter(([key, { leased }]) => leased > 0 || lines.has(key)).length;
  const limitMs = OVERDUE_SLICES * busyKeys * timeSliceMs;
  return [...lines]
    .map(([key, jobs]) => {
      jobs.sort((one, other) => one.entry.place - other.entry.place);
      const queuedAt = jobs.reduce((oldest, { entry }) => Math.min(oldest, entry.queued_at), Number.POSITIVE_INFINITY);
      const { used, leased, servedAt } = usageOf(state, key);
      const unservedMs = leased > 0 ? 0 : state.now - Math.max(queuedAt, servedAt);
      return { key, jobs, used, queuedAt, isLeased: leased > 0, unservedMs, isOverdue: unservedMs >= limitMs };
    })
    .sort(
      (one, other) =>
        Number(other.isOverdue) - Number(one.isOverdue) ||
        (one.isOverdue ? other.unservedMs - one.unservedMs : 0) ||
        Number(one.isLeased) - Number(other.isLeased) ||
        one.used - other.used ||
        one.queuedAt - other.queuedAt,
    );
}

/** Tokens that a job counts for while it is not planned. */
const TYPICAL_TOKENS = 100_000;

/**
 * All waiting jobs in the order in which they are expected to start, if no worker prefers a base model and nothing is sent: a key
 * is served again when its jobs before have used what the other keys have.
 */
export function expectedOrder<Waiting extends InLine>(state: QueueState<Waiting>, timeSliceMs: number): Waiting[] {
  const expected = linesInOrder(state, timeSliceMs).flatMap(({ key, jobs }, rank) => {
    const { used, leased, weight } = usageOf(state, key);
    let tag = used;
    return jobs.map((waiting, index) => {
      const before = tag;
      tag += (tokensLeft(waiting.entry) ?? TYPICAL_TOKENS) / weight;
      // The order of the lines has the keys of which no worker has a job before the others.
      return { waiting, rank, tag: index === 0 && leased === 0 ? Number.NEGATIVE_INFINITY : before };
    });
  });
  return expected
    .sort((one, other) => (one.tag === other.tag ? one.rank - other.rank : one.tag - other.tag))
    .map(({ waiting }) => waiting);
}

/** The base model that a worker has in memory. */
export interface BaseInMemory {
  /** Null: nothing. */
  baseModel: ModelName | null;
  /** The requested precisions that train on it. */
  precisions: readonly TrainingSettings['precision'][];
  quantization: BaseQuantization;
}

/** The jobs that a worker can take now. */
export interface Capacity extends BaseInMemory {
  /** True if it has no job, and takes any. Otherwise it takes only jobs on the base model in its memory. */
  isIdle: boolean;
}

/** Another worker that has a base in memory and a free slot. */
export interface WarmWorker {
  base: BaseInMemory;
  /** True if it has no job. */
  isIdle: boolean;
  /** The memory of its machine, as that of the chooser. */
  memory: number | null;
}

/** A job that the worker has leased. */
export interface LeasedJob {
  id: JobId;
  entry: QueueEntry;
  /** When the worker took it, in milliseconds. */
  since: number;
  /** True if it was asked to give up its slot. */
  isPausing: boolean;
}

/** A worker that looks for its next job. */
export interface Chooser {
  /** Null: it can take nothing now. */
  capacity: Capacity | null;
  /** The base in memory when it could last take a job in addition to those that it has; null: it could not since. */
  loaded: BaseInMemory | null;
  leased: readonly LeasedJob[];
  /** The number of jobs that it may have. */
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
  /** Pauses jobs that it has, so that it can take the job `target`. */
  | { action: 'pause'; leased: readonly LeasedJob[]; target: KnownJob }
  /** @param untilMs - When to look again although nothing has happened; null: no need. */
  | { action: 'wait'; untilMs: number | null };

export type KnownJob = WaitingJob & { entry: QueueEntry };

/** The part of a time slice after which an API key with several jobs on the worker gives a slot to a key with no running job. */
const SHORT_SLICE = 1 / 20;
/**
 * The time for which a new job is left to a worker that has its base in memory and a free slot. It takes the job at once, unless it has just died: so this is
 * longer than its answer takes, and less than loading a base model.
 */
const LEFT_TO_WARM_MS = 2_000;

/**
 * The next action of a worker. It takes the first job of the fair order that fits. A new job is left for a moment to a worker that
 * has its base in memory and a free slot.
 *
 * A time slice is the longest time for which others wait: for the base model of the worker, and for a slot of it.
 * - Jobs on the base model in memory go before a job on another one for a time slice. It is counted from when that job was sent, or
 *   from when the worker changed its base model. Then the worker pauses all its jobs.
 * - While it has no free slot, it pauses one job. It does so after a twentieth of a time slice if it has several jobs of an API key
 *   and no worker has one of the key that waits. It does so after a whole time slice if the job that waits is of the same key, of a
 *   key that has used less, or of an overdue key. This time is counted from when that job was sent, or the paused one was taken.
 *
 * @param timeSliceMs - The time slice, in milliseconds.
 */
export function chooseNext(
  queue: Pick<QueueState, 'now' | 'usage'> & { waiting: readonly WaitingJob[] },
  worker: Chooser,
  timeSliceMs: number,
): Choice {
  const { now } = queue;
  const { capacity, leased, target } = worker;
  const stray = queue.waiting.find(({ entry }) => entry === null);
  if (stray !== undefined && capacity !== null) return { action: 'take', waiting: stray };

  // Others have the memory for the rest.
  const known = queue.waiting.filter(
    (one): one is KnownJob => one.entry !== null && fitsInto(one.entry, worker.memory),
  );
  const soon = new WaitEnd(now);
  const isLeft = ({ entry }: KnownJob) =>
    capacity !== null &&
    !isOnBase(entry, capacity) &&
    worker.warm.some((other) => canTakeWarm(other, entry)) &&
    !soon.at(entry.queued_at + Math.min(LEFT_TO_WARM_MS, timeSliceMs * SHORT_SLICE));
  const ready = known.filter((one) => soon.at(one.entry.not_before ?? 0) && !isLeft(one));

  const lines = linesInOrder({ ...queue, waiting: ready }, timeSliceMs);
  const first = lines[0]?.jobs[0];
  if (first === undefined) return soon.choice();

  const aimed = ready.find(({ id }) => id === target);
  const isPausing = leased.some((one) => one.isPausing);
  if (capacity !== null) {
    if (aimed !== undefined && fits(aimed, capacity)) return { action: 'take', waiting: aimed };
    // What it is pausing is paused for its target alone.
    if (aimed !== undefined && isPausing) return soon.choice();
    const sliceEnds = Math.max(worker.baseSince, first.entry.queued_at) + timeSliceMs;
    if (now < sliceEnds) {
      const fitting = firstOf(lines, (one) => isOnBase(one.entry, capacity) && fits(one, capacity));
      if (fitting !== undefined) return { action: 'take', waiting: fitting };
    }
    if (fits(first, capacity)) return { action: 'take', waiting: first };
  }

  // Nothing can be taken now. One change at a time.
  if (leased.length === 0 || isPausing) return soon.choice();
  const open = (one: KnownJob) => !worker.targetsOfOthers.has(one.id);
  const { loaded } = worker;
  const isConcurrent = (one: KnownJob) =>
    !one.entry.starts_alone &&
    (loaded === null ? leased.some(({ entry }) => isSameBase(entry, one.entry)) : isOnBase(one.entry, loaded));

  if (!isConcurrent(first) && open(first)) {
    if (soon.at(Math.max(worker.baseSince, first.entry.queued_at) + timeSliceMs)) {
      return { action: 'pause', leased, target: first };
    }
  }
  const next = firstOf(lines, (one) => isConcurrent(one) && open(one));
  if (next !== undefined && leased.length >= worker.slots) {
    const { isOverdue } = lines.find(({ key }) => key === next.entry.key)!;
    const ripe = leased.filter(({ entry: { key }, since }) => {
      const isRich = usageOf(queue, next.entry.key).leased === 0 && countOf(leased, key) > 1;
      const isNext = isRich || isOverdue || key === next.entry.key || usesMore(queue, key, next.entry.key);
      return (
        isNext && soon.at(Math.max(next.entry.queued_at, since) + (isRich ? timeSliceMs * SHORT_SLICE : timeSliceMs))
      );
    });
    const [giver] = ripe.sort(
      (one, other) =>
        countOf(leased, other.entry.key) - countOf(leased, one.entry.key) ||
        usageOf(queue, other.entry.key).used - usageOf(queue, one.entry.key).used ||
        one.since - other.since,
    );
    if (giver !== undefined) return { action: 'pause', leased: [giver], target: next };
  }
  return soon.choice();
}

function usesMore(queue: Pick<QueueState, 'usage'>, key: string, other: string): boolean {
  return usageOf(queue, key).used > usageOf(queue, other).used;
}

function countOf(leased: readonly LeasedJob[], key: string): number {
  return leased.filter(({ entry }) => entry.key === key).length;
}

function firstOf(lines: Line<KnownJob>[], isWanted: (waiting: KnownJob) => boolean): KnownJob | undefined {
  for (const { jobs } of lines) {
    const wanted = jobs.find(isWanted);
    if (wanted !== undefined) return wanted;
  }
  return undefined;
}

/** True if a worker with this capacity can take the job. */
export function fits({ entry }: WaitingJob, capacity: Capacity): boolean {
  if (entry === null || capacity.isIdle) return true;
  return !entry.starts_alone && isOnBase(entry, capacity);
}

/** True if a worker can take the job without loading its base. */
function canTakeWarm({ base, isIdle, memory }: WarmWorker, entry: QueueEntry): boolean {
  return isOnBase(entry, base) && (isIdle || !entry.starts_alone) && fitsInto(entry, memory);
}

/** True if a machine with this memory can train the job, as far as both are known. */
export function fitsInto({ memory }: Pick<QueueEntry, 'memory'>, machineMemory: number | null): boolean {
  return machineMemory === null || (memory ?? 0) <= machineMemory;
}

/** True if the job trains on what a worker has in memory. */
export function isOnBase(entry: QueueEntry, { baseModel, precisions, quantization }: BaseInMemory): boolean {
  const isSameForm = precisions.includes(entry.precision) && entry.base_quantization === quantization;
  return entry.base_model === baseModel && isSameForm;
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

  /** True if the time has come; otherwise it is one to wake up at. */
  at(timeMs: number): boolean {
    if (timeMs <= this.#nowMs) return true;
    this.#untilMs = Math.min(this.#untilMs ?? timeMs, timeMs);
    return false;
  }

  choice(): Choice {
    return { action: 'wait', untilMs: this.#untilMs };
  }
}
