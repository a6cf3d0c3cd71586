import { Alarm } from '@lorasmith/concurrency';
import type { JobId, MachineLoad } from '@lorasmith/contracts';
import {
  type BaseInMemory,
  type Capacity,
  type Choice,
  chooseNext,
  fits,
  fitsInto,
  isOnBase,
  type JobStore,
  jobKeys,
  QUEUE_NAME,
  type QueueEntry,
  type QueueSnapshot,
  type WarmWorker,
} from '@lorasmith/queue';
import { QueueEvents, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { TakenJob, TakenJobs, type TakenJobsOptions } from './taken-jobs.js';

/** The most workers of one job that may die before it is given up. */
const MAX_STALLED_COUNT = 3;
/** The time between two looks at the queue without a notice, as a part of a time slice. A notice can be lost, and time that passes sends none. */
const LOOK_EVERY = 1 / 40;
/** The bounds of this time: each look goes through all that waits. */
const LOOK_MS = { least: 100, most: 10_000 };
const ANNOUNCE_EVERY_MS = 5_000;

export interface JobTakerOptions {
  /** Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  prefix: string;
  workerName: string;
  /** The time that the lock on a job lasts without being renewed. */
  lockMs: number;
  /** The most jobs at once. */
  jobsAtOnce: number;
  /** The longest time for which others wait, see `chooseNext`. */
  timeSliceMs: number;
  /** The memory of the machine for a trainer, in bytes; null: it was not measured. */
  memory: number | null;
  /** The class of the worker; empty: none. */
  workerClass: string;
  queue: JobStore['queue'];
  /** The source of what the worker can take now, and of notices that this has changed. */
  pool: { capacity(): Capacity | null; onChange(listener: () => void): () => void };
  /** The last reading of how busy the machine is; null: there is none. */
  load: () => MachineLoad | null;
  run: TakenJobsOptions['run'];
  log: Logger;
}

/**
 * Takes jobs from BullMQ in the order of `chooseNext`, as many at the same time as fit.
 *
 * BullMQ has no such order, so the worker fetches by hand: while it has the lock of all workers, it chooses, moves the chosen job to
 * the front, and takes it. It also does what BullMQ does only while its own loop runs: it renews the locks of the jobs that it
 * has taken, looks for those whose worker has died, and completes, fails or returns each job.
 */
export class JobTaker {
  readonly #options: JobTakerOptions;
  readonly #worker: Worker;
  readonly #events: QueueEvents;
  readonly #taken: TakenJobs;
  readonly #alarm = new Alarm();
  readonly #lookEveryMs: number;
  readonly #looping: Promise<void>;
  readonly #endUpkeep: () => void;
  #isClosing = false;
  #lastToken = 0;
  /** The job for which others are paused. */
  #target: JobId | null = null;
  /** The base in memory when `#choose` last found that the worker can take another job; null without a job. */
  #loaded: BaseInMemory | null = null;
  /** The time when the first job on the present base was taken, in milliseconds. */
  #baseSince = 0;
  /** The base as other workers know it. They leave jobs to this one by what it has announced last. */
  #announced = '';

  /** Starts at once. */
  constructor(options: JobTakerOptions) {
    const { redis, prefix, workerName, lockMs, timeSliceMs, run, log } = options;
    this.#options = options;
    this.#lookEveryMs = Math.min(Math.max(timeSliceMs * LOOK_EVERY, LOOK_MS.least), LOOK_MS.most);
    const connection = { connection: redis, prefix: jobKeys(prefix).queuePrefix };
    this.#worker = new Worker(QUEUE_NAME, null, {
      ...connection,
      name: workerName,
      autorun: false,
      lockDuration: lockMs,
      stalledInterval: lockMs / 4,
      maxStalledCount: MAX_STALLED_COUNT,
    });
    this.#events = new QueueEvents(QUEUE_NAME, connection);
    this.#taken = new TakenJobs({ worker: this.#worker, lockMs, run, onEnded: () => this.#alarm.ring(), log });
    this.#logTrouble();
    this.#endUpkeep = this.#startUpkeep();
    this.#looping = this.#loop();
    this.#looping.catch((error: unknown) => log.error({ err: error }, 'the queue could not be reached'));
  }

  async ready(): Promise<void> {
    await this.#worker.waitUntilReady();
  }

  /** Takes no further job, stops the current ones and releases them. */
  async stop(): Promise<void> {
    const { queue, workerName } = this.#options;
    this.#isClosing = true;
    this.#alarm.ring();
    this.#taken.stopAll('shutdown');
    await this.#looping.catch(() => {});
    await this.#taken.ended();
    await queue.leave(workerName).catch(() => {});
    await this.#close(false);
  }

  /** Drops everything at once; the current jobs are found by their locks running out. */
  abandon(): Promise<void> {
    return this.#close(true);
  }

  async #close(force: boolean): Promise<void> {
    this.#endUpkeep();
    await Promise.all([this.#worker.close(force), this.#events.close()]);
  }

  #logTrouble(): void {
    const { redis, log } = this.#options;
    // While Redis is away, each attempt to reconnect is an error. The owner of the connection has logged it, once.
    const onTrouble = (error: Error) => {
      if (redis.status === 'ready') log.warn({ err: error }, 'queue trouble');
    };
    this.#worker.on('error', onTrouble);
    this.#events.on('error', onTrouble);
    this.#worker.on('stalled', (id) =>
      log.warn({ job: id }, 'the worker of this job has died; the job waits for another'),
    );
  }

  /** Wakes the loop for what happens, renews the locks of the jobs, and announces this worker to the others. @returns ends that */
  #startUpkeep(): () => void {
    const { pool, lockMs } = this.#options;
    this.#events.on('waiting', () => {
      // A worker that can take nothing need not read the queue now.
      if (this.#capacity() !== null) this.#alarm.ring();
    });
    const endListening = pool.onChange(() => this.#alarm.ring());
    // A trainer never blocks this process, so a renewal is late only when Redis is.
    const renewal = setInterval(() => void this.#taken.renewLocks(), lockMs / 4);
    const announcing = setInterval(() => void this.#announce().catch(() => {}), ANNOUNCE_EVERY_MS);
    return () => {
      clearInterval(renewal);
      clearInterval(announcing);
      endListening();
    };
  }

  async #loop(): Promise<void> {
    await this.#worker.waitUntilReady();
    await this.#worker.startStalledCheckTimer();
    while (!this.#isClosing) {
      const waitMs = await this.#look().catch((error: unknown) => {
        this.#options.log.warn({ err: error }, 'no job could be taken; it will be tried again');
        return this.#lookEveryMs;
      });
      if (this.#isClosing) return;
      this.#announceIfChanged();
      await this.#alarm.wait(waitMs);
    }
  }

  /** Does what `chooseNext` says until it says to wait. @returns for how long, in milliseconds */
  async #look(): Promise<number> {
    const { queue, workerName } = this.#options;
    for (;;) {
      const snapshot = await queue.snapshot();
      let choice = this.#choose(snapshot, []);
      // Another worker may have the base that this one would load.
      const warm = this.#mustLoad(choice) ? await queue.otherWarmWorkers(workerName) : [];
      if (warm.length > 0) choice = this.#choose(snapshot, warm);
      if (choice.action === 'wait') {
        const untilMs = choice.untilMs === null ? Number.POSITIVE_INFINITY : choice.untilMs - snapshot.now;
        return Math.min(untilMs, this.#lookEveryMs);
      }
      await queue.locked(async () => {
        let current: QueueSnapshot | null = await queue.snapshot();
        while (current !== null && !this.#isClosing) current = await this.#act(this.#choose(current, warm), current);
      });
    }
  }

  #choose(snapshot: QueueSnapshot, warm: readonly WarmWorker[]): Choice {
    const { workerName, jobsAtOnce, memory, timeSliceMs } = this.#options;
    const targetsOfOthers = [...snapshot.targets].flatMap(([id, by]) => (by === workerName ? [] : [id]));
    const capacity = this.#capacity();
    this.#rememberBase(capacity);
    const chooser = {
      capacity,
      loaded: this.#loaded,
      leased: this.#taken.leased,
      slots: jobsAtOnce,
      memory,
      baseSince: this.#baseSince,
      target: this.#target,
      targetsOfOthers: new Set(targetsOfOthers),
      warm,
    };
    return chooseNext(snapshot, chooser, timeSliceMs);
  }

  /** The jobs that the worker can take now; null: none. */
  #capacity(): Capacity | null {
    const { pool, jobsAtOnce } = this.#options;
    return this.#isClosing || this.#taken.count >= jobsAtOnce ? null : pool.capacity();
  }

  /** Keeps the base in memory for the time in which the worker can take no further job. */
  #rememberBase(capacity: Capacity | null): void {
    if (this.#taken.count === 0) this.#loaded = null;
    else if (capacity !== null) this.#loaded = capacity;
  }

  #mustLoad(choice: Choice): boolean {
    const entry = choice.action === 'take' ? choice.waiting.entry : null;
    const capacity = this.#capacity();
    return entry !== null && capacity !== null && !isOnBase(entry, capacity);
  }

  /** @returns the queue after that; null: there is nothing more to do, or it must be read again */
  async #act(choice: Choice, snapshot: QueueSnapshot): Promise<QueueSnapshot | null> {
    if (choice.action === 'take') return await this.#take(choice.waiting.bullId, snapshot);
    if (choice.action === 'wait') return null;
    const { queue, workerName, log } = this.#options;
    const target = choice.target.id;
    this.#target = target;
    await queue.recordTarget(target, workerName);
    const ids = choice.leased.map(({ id }) => id);
    log.info({ jobs: ids, for: target }, 'paused for a job that has waited for its turn');
    this.#taken.pause(ids);
    return null;
  }

  /**
   * Takes the job at the front, which is `wanted` unless another one got there meanwhile.
   * @param wanted - Its id in BullMQ.
   * @returns the queue without it; null: the queue must be read again
   */
  async #take(wanted: string, snapshot: QueueSnapshot): Promise<QueueSnapshot | null> {
    const { queue, log, memory } = this.#options;
    await queue.moveToFront(wanted);
    const token = `${this.#worker.id}:${this.#lastToken++}`;
    const bullJob = await this.#worker.getNextJob(token, { block: false });
    // BullMQ and the last snapshot differ.
    if (bullJob?.id !== wanted) queue.forgetCopy();
    if (bullJob?.id === undefined) return null;
    const taken = new TakenJob({ bullJob, token, queue, log });
    const found = snapshot.waiting.find(({ bullId }) => bullId === bullJob.id);
    const capacity = this.#capacity();
    const isFitting = found !== undefined && capacity !== null && fits(found, capacity);
    const isWelcome = bullJob.id === wanted || (isFitting && (found.entry === null || fitsInto(found.entry, memory)));
    if (this.#isClosing || !isWelcome) {
      await taken.putBack();
      return null;
    }
    await this.#start(taken, found?.entry ?? null, snapshot.now);
    return withoutTaken(snapshot, bullJob.id);
  }

  async #start(taken: TakenJob, entry: QueueEntry | null, since: number): Promise<void> {
    if (this.#taken.count === 0 && entry !== null) {
      const before = this.#options.pool.capacity();
      if (before === null || !isOnBase(entry, before)) this.#baseSince = since;
    }
    if (taken.id === this.#target) this.#target = null;
    await this.#taken.start(taken, entry, since);
    // The stop may have come while this job was taken.
    if (this.#isClosing) this.#taken.stopAll('shutdown');
  }

  async #announce(): Promise<void> {
    const { queue, workerName, jobsAtOnce, workerClass, load } = this.#options;
    const held = this.#taken.ids;
    await queue.announce(workerName, { slots: jobsAtOnce, held, workerClass, warm: this.#warm(), load: load() });
  }

  #announceIfChanged(): void {
    const warm = JSON.stringify(this.#warm());
    if (warm === this.#announced) return;
    this.#announced = warm;
    void this.#announce().catch(() => {});
  }

  /** The base in memory, if the worker has a free slot for jobs on it. */
  #warm(): WarmWorker | null {
    const base = this.#capacity();
    const { memory } = this.#options;
    return base === null || base.baseModel === null ? null : { base, isIdle: base.isIdle, memory };
  }
}

/** The queue without the job that was taken, which counts for the usage of its API key. */
function withoutTaken(snapshot: QueueSnapshot, takenId: string): QueueSnapshot {
  const entry = snapshot.waiting.find(({ bullId }) => bullId === takenId)?.entry;
  const usage = new Map(snapshot.usage);
  const ofKey = entry ? usage.get(entry.key) : undefined;
  if (entry && ofKey) usage.set(entry.key, { ...ofKey, leased: ofKey.leased + 1 });
  return { ...snapshot, usage, waiting: snapshot.waiting.filter(({ bullId }) => bullId !== takenId) };
}
