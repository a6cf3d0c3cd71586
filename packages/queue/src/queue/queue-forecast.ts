import {
  ACTIVE_STATUSES,
  type Job,
  type JobId,
  type JobProgress,
  type JobQueueState,
  type QueueReason,
  type WorkerStartPhase,
} from '@lorasmith/contracts';
import { parsed } from '../jobs/job-record.js';
import type { StoreDeps } from '../keys.js';
import { repliesOf } from '../redis/redis-errors.js';
import type { WorkerPresences, WorkerStarts } from '../workers/worker-reports.js';
import { expectedOrder, type KnownJob, type QueueState } from './choose-next.js';
import type { QueueContents } from './queue-copy.js';
import { type QueueEntry, tokensLeft, type WaitingJob } from './queue-entry.js';

/** A worker that runs, with the jobs that it trains at the same time. */
interface EstimatedWorker {
  slots: number;
  /** Its jobs, with the seconds that each would still take if it had the worker for itself; null: unknown. */
  running: readonly { id: string; seconds: number | null }[];
}

/** When a job starts and ends, in seconds from now; null: unknown. */
interface EstimatedTimes {
  start: number | null;
  end: number | null;
}

interface Running {
  id: string;
  /**
   * The end on the clock of its worker, which counts the seconds that each of its jobs has had. Infinity: it never ends, as far as is
   * known.
   */
  endsAt: number;
}

/** A worker whose jobs divide its time equally. */
class Machine {
  readonly #slots: number;
  #running: Running[];
  /** The seconds that each of the jobs has had. */
  #clock = 0;
  /** The time for which the clock is right, in seconds from now. */
  #at = 0;
  /** When its next job ends, in seconds from now. */
  nextEnd = Number.POSITIVE_INFINITY;

  constructor({ slots, running }: EstimatedWorker) {
    this.#slots = slots;
    this.#running = running.map(({ id, seconds }) => ({ id, endsAt: seconds ?? Number.POSITIVE_INFINITY }));
    this.#plan();
  }

  get jobs(): number {
    return this.#running.length;
  }

  get hasSlot(): boolean {
    return this.#running.length < this.#slots;
  }

  start(id: string, seconds: number | null, now: number): void {
    if (this.#running.length > 0) this.#clock += (now - this.#at) / this.#running.length;
    this.#at = now;
    this.#running.push({ id, endsAt: this.#clock + (seconds ?? Number.POSITIVE_INFINITY) });
    this.#plan();
  }

  /** Ends the job that ends next. @returns its id */
  end(): string {
    const [first] = this.#running.splice(this.#first(), 1);
    this.#clock = Math.max(this.#clock, first!.endsAt);
    this.#at = this.nextEnd;
    this.#plan();
    return first!.id;
  }

  /** The index of the job that ends next. */
  #first(): number {
    let first = 0;
    for (let i = 1; i < this.#running.length; i++) {
      if (this.#running[i]!.endsAt < this.#running[first]!.endsAt) first = i;
    }
    return first;
  }

  #plan(): void {
    const first = this.#running[this.#first()];
    this.nextEnd =
      first === undefined
        ? Number.POSITIVE_INFINITY
        : this.#at + Math.max(0, first.endsAt - this.#clock) * this.#running.length;
  }
}

/**
 * When the jobs start and end if nothing is sent, cancelled or paused: each waiting job takes the first slot that gets free, and the
 * jobs of a worker divide its time equally. A job of unknown length keeps its share for ever: the others end no later than estimated.
 * It ignores base models, weights and that jobs together take less time than one after another.
 *
 * @param waiting - In the order in which they start.
 */
function estimateTimes(
  workers: readonly EstimatedWorker[],
  waiting: readonly { id: string; seconds: number | null }[],
): Map<string, EstimatedTimes> {
  const times = new Map<string, EstimatedTimes>();
  let now = 0;
  const machines = workers.map((worker) => new Machine(worker));
  for (const { running } of workers) for (const { id } of running) times.set(id, { start: null, end: null });

  // Each waiting job looks through all of them.
  const ends = Float64Array.from(machines, (machine) => machine.nextEnd);
  /** Lets time pass until the next job ends. @returns the index of its machine; null: none does */
  const nextEnd = (): number | null => {
    let next: number | null = null;
    let nextAt = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ends.length; i++) {
      if (ends[i]! < nextAt) {
        next = i;
        nextAt = ends[i]!;
      }
    }
    if (next === null) return null;
    now = nextAt;
    times.get(machines[next]!.end())!.end = now;
    ends[next] = machines[next]!.nextEnd;
    return next;
  };

  // Once there is none, the only free slot is that of a job that has ended.
  let areFree = true;
  for (const { id, seconds } of waiting) {
    let free: number | null = areFree ? freest(machines) : null;
    areFree = free !== null;
    while (free === null) {
      const ended = nextEnd();
      if (ended === null) break;
      if (machines[ended]!.hasSlot) free = ended;
    }
    times.set(id, { start: free === null ? null : now, end: null });
    if (free === null) continue;
    machines[free]!.start(id, seconds, now);
    ends[free] = machines[free]!.nextEnd;
  }
  while (nextEnd() !== null);
  return times;
}

/** The index of the machine with the fewest jobs, if it has a free slot. */
function freest(machines: readonly Machine[]): number | null {
  let found: number | null = null;
  for (const [i, machine] of machines.entries()) {
    if (machine.hasSlot && (found === null || machine.jobs < machines[found]!.jobs)) found = i;
  }
  return found;
}

/** Positions and estimates are calculated once in this time, however many ask for them. */
const FORECAST_MS = 1_000;

/** A job that waits or trains, with what remains of it. */
export interface RemainingWork {
  entry: QueueEntry;
  /** The class of the worker that trains it, empty if it has none; null: it waits. */
  workerClass: string | null;
  /** Tokens that it will still read; null: it is not planned yet. */
  tokens: number | null;
  /** Seconds of training that remain, if it trains alone; null: unknown. */
  seconds: number | null;
}

/** A job that a worker trains. */
interface RunningJob extends Pick<RemainingWork, 'tokens' | 'seconds'> {
  id: JobId;
  /** Null: it has ended. */
  entry: QueueEntry | null;
}

interface RunningWorker extends EstimatedWorker {
  running: RunningJob[];
  workerClass: string;
}

interface Forecast {
  at: number;
  positions: Map<JobId, number>;
  times: Map<string, EstimatedTimes>;
  waiting: number;
  reason: QueueReason | null;
}

type Queued = Pick<QueueState, 'now' | 'usage'> & { waiting: WaitingJob[] };

interface QueueForecastOptions extends StoreDeps {
  timeSliceMs: number;
  presences: WorkerPresences;
  starts: WorkerStarts;
  /** Reads the queue as it is now. */
  read(): Promise<{ queued: Queued; entryOf: QueueContents['entryOf'] }>;
}

/** The work that waits and trains, and when it is expected to be done. */
export class QueueForecast {
  readonly #options: QueueForecastOptions;
  #latest: { at: number; forecast: Promise<Forecast> } | null = null;

  constructor(options: QueueForecastOptions) {
    this.#options = options;
  }

  /** All that waits and trains, and the most jobs that a worker trains at once, of those that run; null: none runs. */
  async work(): Promise<{ jobs: RemainingWork[]; slots: number | null }> {
    const { waiting, workers } = await this.#state();
    const running = new Set(workers.flatMap((worker) => worker.running.map(({ id }) => id)));
    const waits = waiting.flatMap(({ id, entry }): RemainingWork[] =>
      entry === null || running.has(id)
        ? []
        : [{ entry, workerClass: null, tokens: tokensLeft(entry), seconds: entry.seconds }],
    );
    const trains = workers.flatMap(({ workerClass, running: jobs }) =>
      jobs.flatMap(({ entry, tokens, seconds }): RemainingWork[] =>
        entry === null ? [] : [{ entry, workerClass, tokens, seconds }],
      ),
    );
    return {
      jobs: [...waits, ...trains],
      slots: workers.length === 0 ? null : Math.max(...workers.map(({ slots }) => slots)),
    };
  }

  /** The position of the job and when it is expected to start and to end; null: it has ended, or is paused. */
  async of({ id, status }: Pick<Job, 'id' | 'status'>): Promise<JobQueueState | null> {
    if (!ACTIVE_STATUSES.includes(status)) return null;
    const recent = await this.#within(FORECAST_MS);
    // A job that was sent a moment ago.
    const isMissing = status === 'queued' && !recent.positions.has(id);
    const { at, positions, times, waiting, reason } = isMissing ? await this.#within(FORECAST_MS / 10) : recent;
    const { start, end } = times.get(id) ?? { start: null, end: null };
    const time = (seconds: number | null) => (seconds === null ? null : new Date(at + seconds * 1_000).toISOString());
    return {
      ahead: status === 'queued' ? (positions.get(id) ?? waiting) : 0,
      reason: status === 'queued' ? reason : null,
      estimated_start: status === 'queued' ? time(start) : null,
      estimated_end: time(end),
    };
  }

  #within(ageMs: number): Promise<Forecast> {
    const at = this.#options.clock?.() ?? performance.now();
    if (this.#latest === null || at - this.#latest.at >= ageMs) {
      const made = { at, forecast: this.#calculate() };
      this.#latest = made;
      made.forecast.catch(() => {
        if (this.#latest === made) this.#latest = null;
      });
    }
    return this.#latest.forecast;
  }

  async #calculate(): Promise<Forecast> {
    const { starts, timeSliceMs } = this.#options;
    const { workers, ...queued } = await this.#state();
    const known = queued.waiting.filter((one): one is KnownJob => one.entry !== null);
    const order = expectedOrder({ ...queued, waiting: known }, timeSliceMs);
    const times = estimateTimes(
      workers,
      order.map(({ id, entry }) => ({ id, seconds: entry.seconds })),
    );
    return {
      at: queued.now,
      positions: new Map(order.map(({ id }, position) => [id, position])),
      times,
      waiting: order.length,
      reason: reasonToWait(workers, await starts.nearest(queued.now)),
    };
  }

  /** The queue, and the workers that run. */
  async #state(): Promise<Queued & { workers: RunningWorker[] }> {
    const { queued, entryOf } = await this.#options.read();
    return { ...queued, workers: await this.#workers(queued.now, entryOf) };
  }

  async #workers(at: number, entryOf: QueueContents['entryOf']): Promise<RunningWorker[]> {
    const { redis, keys, presences: all } = this.#options;
    const presences = [...(await all.at(at)).values()];
    const look = redis.pipeline();
    for (const id of presences.flatMap(({ held }) => held)) look.hget(keys.job(id), 'progress');
    const progress = look.length === 0 ? [] : (repliesOf(await look.exec()) as (string | null)[]);
    let next = 0;
    return presences.map(({ slots, held: ids, workerClass = '' }) => ({
      slots,
      workerClass,
      running: ids.map((id): RunningJob => {
        const entry = entryOf(id);
        const done = parsed<JobProgress>(progress[next++]);
        const left = done?.seconds_left ?? null;
        const share = done === null ? 0 : done.step / Math.max(1, done.total_steps);
        const tokens = entry === null ? null : tokensLeft({ ...entry, done: share });
        // It measures its time while the others train too.
        return { id, entry, tokens, seconds: left === null ? secondsAfter(share, entry) : left / ids.length };
      }),
    }));
  }
}

/** The reason why no worker takes what waits; null: one has nothing to do. */
function reasonToWait(
  workers: readonly Pick<EstimatedWorker, 'running'>[],
  starting: WorkerStartPhase | null,
): QueueReason | null {
  if (workers.some(({ running }) => running.length === 0)) return null;
  if (starting !== null) return `worker-${starting}`;
  return workers.length === 0 ? 'no-worker' : 'workers-busy';
}

/** Seconds that remain, if it trains alone, of a job that has done this share of its steps; null: unknown. */
function secondsAfter(share: number, entry: QueueEntry | null): number | null {
  if (entry === null || entry.seconds === null) return null;
  // Its entry says what remained when it joined the queue.
  const { seconds, done = 0 } = entry;
  return share <= done ? seconds : (seconds * (1 - share)) / (1 - done);
}
