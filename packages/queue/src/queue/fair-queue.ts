import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ACTIVE_STATUSES,
  type Job,
  type JobId,
  type JobProgress,
  type JobQueueState,
  type MachineLoad,
  type QueueReason,
  type WorkerStartPhase,
} from '@lorasmith/contracts';
import { parsed } from '../jobs/job-record.js';
import { endLeaseScript } from '../redis/lease.js';
import { luaScript } from '../redis/lua-script.js';
import { repliesOf } from '../redis/redis-errors.js';
import { queueTime, type StoreDeps } from '../store-deps.js';
import { WORKER_GONE_MS, type WorkerStarts } from '../workers/worker-starts.js';
import type { KnownJob, WarmWorker } from './choose-next.js';
import { type EstimatedTimes, type EstimatedWorker, estimateTimes } from './estimate-times.js';
import { expectedOrder, type KeyUse } from './fair-order.js';
import type { JobQueue } from './job-queue.js';
import { type QueueContents, QueueCopy } from './queue-copy.js';
import { type QueueEntry, tokensLeft, type WaitingJob } from './queue-entry.js';

/** Longer than taking a job takes. Where it takes longer still, the worst is that a worker gets another job than it chose. */
const LOCK_MS = 5_000;
/** Time between two tries to get the lock. */
const LOCK_RETRY_MS = 20;
/** How long paused jobs may take to make way for the job that they were paused for. */
const TARGET_MS = 120_000;
/** Positions and estimates are calculated once in this time, however many ask for them. */
const FORECAST_MS = 1_000;

/** Everything that workers choose by. */
export interface QueueSnapshot {
  /** The time in milliseconds. */
  now: number;
  waiting: WaitingJob[];
  keys: Map<string, KeyUse>;
  /** The jobs for which workers have paused others, and which worker. */
  targets: Map<JobId, string>;
}

/** The report of a worker about itself. */
export interface WorkerPresence {
  slots: number;
  held: JobId[];
  /** The class of the worker; empty or left out: none. */
  workerClass?: string;
  /** The base in its memory, if it has a free place for jobs on it; null or left out: none. */
  warm?: WarmWorker | null;
  /** How busy its machine is; null or left out: unknown. */
  load?: MachineLoad | null;
}

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

/** A job that a worker holds. */
interface RunningJob extends Pick<RemainingWork, 'tokens' | 'seconds'> {
  id: JobId;
  /** Null: it has ended. */
  entry: QueueEntry | null;
}

/** The order in which jobs start. */
export interface FairQueue {
  /** The queue as it is now. It reads what has changed since the last call in this process. */
  snapshot(): Promise<QueueSnapshot>;
  /** Lets the next snapshot read everything: what BullMQ did is not what the last one said. */
  reread(): void;
  /** Runs `work` while no other worker chooses. */
  locked<Result>(work: () => Promise<Result>): Promise<Result>;
  /** Makes a waiting entry the one that the next worker gets. */
  moveToFront(entry: string): Promise<void>;
  /** No worker takes the job within this time. */
  delay(id: JobId, milliseconds: number): Promise<void>;
  /** Records that this worker pauses jobs for that one, so that no other worker does. */
  aim(id: JobId, worker: string): Promise<void>;
  /** Records that a worker runs, and what it holds. It must be repeated within some seconds. */
  announce(worker: string, presence: WorkerPresence): Promise<void>;
  /** Records that a worker does not run any more. */
  leave(worker: string): Promise<void>;
  /** The workers that run, by name. */
  presences(): Promise<Map<string, WorkerPresence>>;
  /** The workers other than this one that have a base in memory and a free place, as they last said. */
  warmBeside(worker: string): Promise<WarmWorker[]>;
  /** All that waits and trains, and the most jobs that a worker trains at once, of those that run; null: none runs. */
  work(): Promise<{ jobs: RemainingWork[]; slots: number | null }>;
  /** The position of the job and when it is expected to start and to end; null: it has ended, or is paused. */
  forecast(job: Pick<Job, 'id' | 'status'>): Promise<JobQueueState | null>;
}

const delayScript = luaScript(import.meta.url, './delay-entry.lua');

export interface FairQueueOptions extends StoreDeps {
  queue: JobQueue;
  turnMs: number;
  starts: Pick<WorkerStarts, 'nearest'>;
}

export function createFairQueue(deps: FairQueueOptions): FairQueue {
  const { redis, keys, clock, queue, turnMs, starts } = deps;

  const copy = new QueueCopy({ redis, keys, queue });

  const usesOf = async (names: string[], held: (QueueEntry | null)[]): Promise<Map<string, KeyUse>> => {
    if (names.length === 0) return new Map();
    const look = redis.pipeline();
    for (const key of [keys.keyUsed, keys.keyServed, keys.keyWeights]) look.hmget(key, ...names);
    const [used, served, weights] = repliesOf(await look.exec()) as (string | null)[][];
    const uses = names.map((name, i): [string, KeyUse] => [
      name,
      { used: Number(used![i] ?? 0), servedAt: Number(served![i] ?? 0), weight: Number(weights![i] ?? 1), held: 0 },
    ]);
    const byName = new Map(uses);
    for (const entry of held) if (entry !== null) byName.get(entry.key)!.held++;
    return byName;
  };

  const readQueue = async (): Promise<{ queued: QueueSnapshot; entryOf: QueueContents['entryOf'] }> => {
    const [{ waiting, held, entryOf }, targets] = await Promise.all([copy.read(), redis.hgetall(keys.queueTargets)]);
    const heldEntries = held.map(entryOf);
    const names = new Set<string>();
    for (const { job } of waiting) if (job !== null) names.add(job.key);
    for (const entry of heldEntries) if (entry !== null) names.add(entry.key);
    const [at, uses] = await Promise.all([queueTime(deps), usesOf([...names], heldEntries)]);
    const queued = {
      now: at,
      waiting,
      keys: uses,
      targets: new Map(
        Object.entries(targets).flatMap(([id, text]) => {
          const { worker, until } = JSON.parse(text) as { worker: string; until: number };
          return until > at ? [[id as JobId, worker] as const] : [];
        }),
      ),
    };
    return { queued, entryOf };
  };

  const presencesAt = async (at: number): Promise<Map<string, WorkerPresence>> =>
    new Map(
      Object.entries(await redis.hgetall(keys.queueWorkers)).flatMap(([worker, text]) => {
        const { seen_at, ...presence } = JSON.parse(text) as WorkerPresence & { seen_at: number };
        return at - seen_at < WORKER_GONE_MS ? [[worker, presence] as const] : [];
      }),
    );

  const runningWorkers = async (
    at: number,
    entryOf: QueueContents['entryOf'],
  ): Promise<(Omit<EstimatedWorker, 'held'> & { held: RunningJob[]; of: string })[]> => {
    const presences = [...(await presencesAt(at)).values()];
    const look = redis.pipeline();
    for (const id of presences.flatMap(({ held }) => held)) look.hget(keys.job(id), 'progress');
    const progress = look.length === 0 ? [] : (repliesOf(await look.exec()) as (string | null)[]);
    let next = 0;
    return presences.map(({ slots, held, workerClass: of = '' }) => ({
      slots,
      of,
      held: held.map((id): RunningJob => {
        const entry = entryOf(id);
        const done = parsed<JobProgress>(progress[next++]);
        const left = done?.seconds_left ?? null;
        const share = done === null ? 0 : done.step / Math.max(1, done.total_steps);
        const tokens = entry === null ? null : tokensLeft({ ...entry, done: share });
        // What it measures is its time beside the others.
        return { id, entry, tokens, seconds: left === null ? secondsAfter(share, entry) : left / held.length };
      }),
    }));
  };

  /** The queue, and the workers that run. */
  const state = async () => {
    const { queued, entryOf } = await readQueue();
    return { ...queued, workers: await runningWorkers(queued.now, entryOf) };
  };

  const work = async (): Promise<{ jobs: RemainingWork[]; slots: number | null }> => {
    const { waiting, workers } = await state();
    const held = new Set(workers.flatMap((worker) => worker.held.map(({ id }) => id)));
    const waits = waiting.flatMap(({ id, job }): RemainingWork[] =>
      job === null || held.has(id)
        ? []
        : [{ entry: job, workerClass: null, tokens: tokensLeft(job), seconds: job.seconds }],
    );
    const trains = workers.flatMap((worker) =>
      worker.held.flatMap(({ entry, tokens, seconds }): RemainingWork[] =>
        entry === null ? [] : [{ entry, workerClass: worker.of, tokens, seconds }],
      ),
    );
    return {
      jobs: [...waits, ...trains],
      slots: workers.length === 0 ? null : Math.max(...workers.map(({ slots }) => slots)),
    };
  };

  interface Forecast {
    at: number;
    places: Map<JobId, number>;
    times: Map<string, EstimatedTimes>;
    waiting: number;
    reason: QueueReason | null;
  }
  let latest: { at: number; forecast: Promise<Forecast> } | null = null;
  const calculate = async (): Promise<Forecast> => {
    const { workers, ...queued } = await state();
    const known = queued.waiting.filter((one): one is KnownJob => one.job !== null);
    const order = expectedOrder({ ...queued, waiting: known }, turnMs);
    const times = estimateTimes(
      workers,
      order.map(({ id, job }) => ({ id, seconds: job.seconds })),
    );
    return {
      at: queued.now,
      places: new Map(order.map(({ id }, place) => [id, place])),
      times,
      waiting: order.length,
      reason: reasonToWait(workers, await starts.nearest(queued.now)),
    };
  };
  const forecastWithin = (ageMs: number): Promise<Forecast> => {
    const at = clock?.() ?? performance.now();
    if (latest === null || at - latest.at >= ageMs) {
      const made = { at, forecast: calculate() };
      latest = made;
      made.forecast.catch(() => {
        if (latest === made) latest = null;
      });
    }
    return latest.forecast;
  };

  return {
    snapshot: async () => (await readQueue()).queued,
    reread: () => copy.forget(),
    async locked(work) {
      const token = randomUUID();
      while ((await redis.set(keys.queueLock, token, 'PX', LOCK_MS, 'NX')) === null) await sleep(LOCK_RETRY_MS);
      try {
        return await work();
      } finally {
        await endLeaseScript(redis, { lease: keys.queueLock }, { token });
      }
    },
    moveToFront: (entry) => queue.moveToFront(entry),
    async delay(id, milliseconds) {
      await delayScript(
        redis,
        { queue_entries: keys.queueEntries, queue_changes: keys.queueChanges },
        { id, not_before: (await queueTime(deps)) + milliseconds },
      );
    },
    async aim(id, worker) {
      await redis.hset(keys.queueTargets, id, JSON.stringify({ worker, until: (await queueTime(deps)) + TARGET_MS }));
    },
    async announce(worker, presence) {
      await redis.hset(keys.queueWorkers, worker, JSON.stringify({ ...presence, seen_at: await queueTime(deps) }));
    },
    presences: async () => await presencesAt(await queueTime(deps)),
    async warmBeside(worker) {
      const presences = await presencesAt(await queueTime(deps));
      return [...presences].flatMap(([name, { warm }]) => (name === worker ? [] : (warm ?? [])));
    },
    async leave(worker) {
      await redis.hdel(keys.queueWorkers, worker);
    },
    work,
    async forecast({ id, status }) {
      if (!ACTIVE_STATUSES.includes(status)) return null;
      const recent = await forecastWithin(FORECAST_MS);
      // A job that was sent a moment ago.
      const isMissing = status === 'queued' && !recent.places.has(id);
      const { at, places, times, waiting, reason } = isMissing ? await forecastWithin(FORECAST_MS / 10) : recent;
      const { start, end } = times.get(id) ?? { start: null, end: null };
      const time = (seconds: number | null) => (seconds === null ? null : new Date(at + seconds * 1_000).toISOString());
      return {
        ahead: status === 'queued' ? (places.get(id) ?? waiting) : 0,
        reason: status === 'queued' ? reason : null,
        estimated_start: status === 'queued' ? time(start) : null,
        estimated_end: time(end),
      };
    },
  };
}

/** The reason why no worker takes what waits; null: one has nothing to do. */
function reasonToWait(
  workers: readonly Pick<EstimatedWorker, 'held'>[],
  starting: WorkerStartPhase | null,
): QueueReason | null {
  if (workers.some(({ held }) => held.length === 0)) return null;
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
