import { setTimeout as sleep } from 'node:timers/promises';
import type { Job, JobId, JobQueueState } from '@lorasmith/contracts';
import { queueTime, type StoreDeps } from '../keys.js';
import { Lease } from '../redis/lease.js';
import { luaScript } from '../redis/lua-script.js';
import { repliesOf } from '../redis/redis-errors.js';
import { type WorkerPresence, WorkerPresences, WorkerStarts } from '../workers/worker-reports.js';
import type { KeyUsage, WarmWorker } from './choose-next.js';
import type { JobQueue } from './job-queue.js';
import { type QueueContents, QueueCopy } from './queue-copy.js';
import type { QueueEntry, WaitingJob } from './queue-entry.js';
import { QueueForecast, type RemainingWork } from './queue-forecast.js';

const delayScript = luaScript(import.meta.url, './queue-entry.lua', 'delay_entry');

/** The lifetime of the lock: longer than a worker takes to fill its free slots. If that takes longer still, a worker may get another job than it chose. */
const LOCK_MS = 5_000;
/** Time between two tries to get the lock. */
const LOCK_RETRY_MS = 20;
/** The time for which a recorded target counts: jobs that are paused for it have paused by then. */
const TARGET_MS = 120_000;

/** The facts that workers choose by. */
export interface QueueSnapshot {
  /** The time in milliseconds. */
  now: number;
  waiting: WaitingJob[];
  /** The usage by API key; '' for jobs without one. */
  usage: Map<string, KeyUsage>;
  /** The jobs for which workers have paused others, and which worker. */
  targets: Map<JobId, string>;
}

export interface FairQueueOptions extends StoreDeps {
  queue: JobQueue;
  timeSliceMs: number;
}

/** The order in which jobs start, and the workers that take them. */
export class FairQueue {
  readonly #options: FairQueueOptions;
  readonly #copy: QueueCopy;
  readonly #presences: WorkerPresences;
  readonly #forecast: QueueForecast;

  constructor(options: FairQueueOptions) {
    this.#options = options;
    this.#copy = new QueueCopy(options);
    this.#presences = new WorkerPresences(options);
    this.#forecast = new QueueForecast({
      ...options,
      presences: this.#presences,
      starts: new WorkerStarts(options),
      read: () => this.#read(),
    });
  }

  /** The queue as it is now. It reads what has changed since the last call in this process. */
  async snapshot(): Promise<QueueSnapshot> {
    return (await this.#read()).queued;
  }

  /** Forgets the queue as this process knows it, so that the next snapshot reads everything. */
  forgetCopy(): void {
    this.#copy.forget();
  }

  /** Runs `work` while no other worker chooses. */
  async locked<Result>(work: () => Promise<Result>): Promise<Result> {
    const lock = new Lease(this.#options.redis, this.#options.keys.queueLock, LOCK_MS);
    while (!(await lock.take())) await sleep(LOCK_RETRY_MS);
    try {
      return await work();
    } finally {
      await lock.end();
    }
  }

  /** Makes a waiting job the one that the next worker gets from BullMQ. */
  async moveToFront(bullId: string): Promise<void> {
    await this.#options.queue.moveToFront(bullId);
  }

  /** No worker takes the job within this time. */
  async delay(id: JobId, milliseconds: number): Promise<void> {
    const { redis, keys } = this.#options;
    const entryKeys = { queue_entries: keys.queueEntries, queue_changes: keys.queueChanges };
    await delayScript(redis, entryKeys, { id, not_before: (await queueTime(this.#options)) + milliseconds });
  }

  /** Records that this worker pauses jobs for the job with this id, so that no other worker does. */
  async recordTarget(id: JobId, worker: string): Promise<void> {
    const { redis, keys } = this.#options;
    const until = (await queueTime(this.#options)) + TARGET_MS;
    await redis.hset(keys.queueTargets, id, JSON.stringify({ worker, until }));
  }

  /** Records that a worker runs, and its jobs. It must be repeated within some seconds. */
  async announce(worker: string, presence: WorkerPresence): Promise<void> {
    await this.#presences.announce(worker, presence);
  }

  /** Records that a worker does not run any more. */
  async leave(worker: string): Promise<void> {
    await this.#presences.leave(worker);
  }

  /** The workers that run, by name. */
  async presences(): Promise<Map<string, WorkerPresence>> {
    return await this.#presences.at(await queueTime(this.#options));
  }

  /** The workers other than this one that have a base in memory and a free slot, as they last said. */
  async otherWarmWorkers(worker: string): Promise<WarmWorker[]> {
    return [...(await this.presences())].flatMap(([name, { warm }]) => (name === worker ? [] : (warm ?? [])));
  }

  /** All that waits and trains, and the most jobs that a worker trains at once, of those that run; null: none runs. */
  async work(): Promise<{ jobs: RemainingWork[]; slots: number | null }> {
    return await this.#forecast.work();
  }

  /** The position of the job and when it is expected to start and to end; null: it has ended, or is paused. */
  async forecast(job: Pick<Job, 'id' | 'status'>): Promise<JobQueueState | null> {
    return await this.#forecast.of(job);
  }

  async #read(): Promise<{ queued: QueueSnapshot; entryOf: QueueContents['entryOf'] }> {
    const { redis, keys } = this.#options;
    const [{ waiting, leased, entryOf }, targets] = await Promise.all([
      this.#copy.read(),
      redis.hgetall(keys.queueTargets),
    ]);
    const leasedEntries = leased.map(entryOf);
    const names = new Set<string>();
    for (const { entry } of waiting) if (entry !== null) names.add(entry.key);
    for (const entry of leasedEntries) if (entry !== null) names.add(entry.key);
    const [now, usage] = await Promise.all([queueTime(this.#options), this.#usageOf([...names], leasedEntries)]);
    const current = Object.entries(targets).flatMap(([id, text]) => {
      const { worker, until } = JSON.parse(text) as { worker: string; until: number };
      return until > now ? [[id as JobId, worker] as const] : [];
    });
    return { queued: { now, waiting, usage, targets: new Map(current) }, entryOf };
  }

  /** @param names - The API keys. */
  async #usageOf(names: string[], leased: (QueueEntry | null)[]): Promise<Map<string, KeyUsage>> {
    if (names.length === 0) return new Map();
    const { redis, keys } = this.#options;
    const look = redis.pipeline();
    for (const key of [keys.keyUsed, keys.keyServed, keys.keyWeights]) look.hmget(key, ...names);
    const [used, served, weights] = repliesOf(await look.exec()) as (string | null)[][];
    const uses = names.map((name, i): [string, KeyUsage] => [
      name,
      { used: Number(used![i] ?? 0), servedAt: Number(served![i] ?? 0), weight: Number(weights![i] ?? 1), leased: 0 },
    ]);
    const byName = new Map(uses);
    for (const entry of leased) if (entry !== null) byName.get(entry.key)!.leased++;
    return byName;
  }
}
