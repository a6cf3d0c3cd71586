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
import type { WorkerPresences, WorkerStarts } from '../workers/worker-presence.js';
import type { KnownJob } from './choose-next.js';
import { type EstimatedTimes, type EstimatedWorker, estimateTimes } from './estimate-times.js';
import { expectedOrder, type QueueState } from './fair-order.js';
import type { QueueContents } from './queue-copy.js';
import { type QueueEntry, tokensLeft, type WaitingJob } from './queue-entry.js';

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

export interface QueueForecastOptions extends StoreDeps {
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
