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
  jobOfQueueEntry,
  type LeasedJob,
  QUEUE_NAME,
  type QueueEntry,
  type QueueSnapshot,
  type WarmWorker,
} from '@lorasmith/queue';
import type { StopReason } from '@lorasmith/training';
import { QueueEvents, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { AttemptOutcome } from './attempt-outcome.js';
import type { RunJobOptions } from './run-job.js';
import { TakenEntry } from './taken-entry.js';

/** How many workers of one job may die before it is given up. */
const MAX_STALLED_COUNT = 3;
/** The part of a turn between two looks without a notice. One can be lost, and none says that a wait has become too long. */
const LOOK_EVERY = 1 / 40;
/** Its bounds: each look goes through all that waits. */
const LOOK_MS = { least: 100, most: 10_000 };
const ANNOUNCE_EVERY_MS = 5_000;

export interface TrainQueueOptions {
  /** Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  redis: Redis;
  prefix: string;
  workerName: string;
  /** How long the lock on a job lasts without being renewed. */
  lockMs: number;
  /** The most jobs at once. */
  jobsAtOnce: number;
  /** How long a worker may stay on its base model while others wait for another one. */
  turnMs: number;
  /** The memory of the machine for a trainer, in bytes; null: it was not measured. */
  memory: number | null;
  /** The class of the worker; empty: none. */
  workerClass: string;
  order: JobStore['queue'];
  /** The source of what the worker can take now, and of notices that this has changed. */
  pool: { appetite(): Capacity | null; onChange(listener: () => void): () => void };
  /** The last reading of how busy the machine is; null: there is none. */
  load: () => MachineLoad | null;
  run: (id: JobId, options: RunJobOptions) => Promise<AttemptOutcome>;
  log: Logger;
}

export interface TrainQueue {
  ready(): Promise<void>;
  /** Takes no further job, stops the current ones and releases them. */
  stop(): Promise<void>;
  /** Drops everything at once; the current jobs are found by their locks running out. */
  abandon(): Promise<void>;
}

/** A job that this worker holds. */
interface Held {
  id: JobId;
  taken: TakenEntry;
  /** Null: it is only taken to remove it from the queue. */
  entry: QueueEntry | null;
  /** When it was taken, in milliseconds. */
  since: number;
  stopping: AbortController;
  pausing: AbortController;
  ended: Promise<void>;
}

/**
 * Takes jobs from BullMQ in the order of `chooseNext`, as many at the same time as fit, and reports to it what became of each.
 *
 * BullMQ has no such order, so the worker fetches by hand: while it has the lock of all workers, it chooses, moves the chosen entry to
 * the front, and takes it. It also does what BullMQ does only while its own loop runs: it renews the locks of the jobs that it
 * holds, looks for those whose worker has died, and completes, fails or returns each entry.
 */
export function startTrainQueue(options: TrainQueueOptions): TrainQueue {
  const { redis, prefix, workerName, lockMs, jobsAtOnce, turnMs, memory, workerClass, order, pool, run, log } = options;
  const connection = { connection: redis, prefix: jobKeys(prefix).queuePrefix };
  const worker = new Worker(QUEUE_NAME, null, {
    ...connection,
    name: workerName,
    autorun: false,
    lockDuration: lockMs,
    stalledInterval: lockMs / 4,
    maxStalledCount: MAX_STALLED_COUNT,
  });
  const events = new QueueEvents(QUEUE_NAME, connection);
  // While Redis is away, each attempt to reconnect is an error. The owner of the connection has logged it, once.
  const onTrouble = (error: Error) => {
    if (redis.status === 'ready') log.warn({ err: error }, 'queue trouble');
  };
  worker.on('error', onTrouble);
  events.on('error', onTrouble);
  worker.on('stalled', (id) => log.warn({ job: id }, 'the worker of this job has died; the job waits for another'));

  /** Held entries by name. */
  const held = new Map<string, Held>();
  const alarm = new Alarm();
  const lookEveryMs = Math.min(Math.max(turnMs * LOOK_EVERY, LOOK_MS.least), LOOK_MS.most);
  let isClosing = false;
  let tokens = 0;
  /** The job for which others are paused. */
  let target: JobId | null = null;
  let loaded: BaseInMemory | null = null;
  let baseSince = 0;

  /** The jobs that the worker can take; remembers the base in memory beside the jobs that it holds. */
  const appetiteNow = (): Capacity | null => {
    const appetite = isClosing || held.size >= jobsAtOnce ? null : pool.appetite();
    if (held.size === 0) loaded = null;
    else if (appetite !== null) loaded = appetite;
    return appetite;
  };

  /** The base in memory, if the worker has a free place for jobs on it. */
  const warmNow = (): WarmWorker | null => {
    const base = appetiteNow();
    return base === null || base.baseModel === null ? null : { base, isIdle: base.isIdle, memory };
  };

  const choose = (queue: QueueSnapshot, warm: readonly WarmWorker[]): Choice => {
    const targetsOfOthers = [...queue.targets].flatMap(([id, by]) => (by === workerName ? [] : [id]));
    const chooser = {
      capacity: appetiteNow(),
      loaded,
      leased: [...held.values()].flatMap(heldJob),
      slots: jobsAtOnce,
      memory,
      baseSince,
      target,
      targetsOfOthers: new Set(targetsOfOthers),
      warm,
    };
    return chooseNext(queue, chooser, turnMs);
  };

  /**
   * Takes the entry at the front, which is `wanted` unless another one got there meanwhile.
   * @returns the queue without it; null: the queue must be read again
   */
  const take = async (wanted: string, queue: QueueSnapshot): Promise<QueueSnapshot | null> => {
    await order.moveToFront(wanted);
    const token = `${worker.id}:${tokens++}`;
    const job = await worker.getNextJob(token, { block: false });
    if (job?.id !== wanted) order.reread();
    if (job?.id === undefined) return null;
    const taken = new TakenEntry({ job, token, order, log });
    const found = queue.waiting.find(({ entry }) => entry === job.id);
    const appetite = appetiteNow();
    const isFitting = found !== undefined && appetite !== null && fits(found, appetite);
    const isWelcome = job.id === wanted || (isFitting && (found.job === null || fitsInto(found.job, memory)));
    if (isClosing || !isWelcome) {
      await taken.putBack();
      return null;
    }
    await hold(taken, found?.job ?? null, queue.now);
    return withoutTaken(queue, job.id);
  };

  const hold = async (taken: TakenEntry, entry: QueueEntry | null, since: number): Promise<void> => {
    const { id, resumes } = jobOfQueueEntry(taken.name);
    const before = pool.appetite();
    if (held.size === 0 && entry !== null && (before === null || !isOnBase({ job: entry }, before))) baseSince = since;
    if (id === target) target = null;
    const stopping = new AbortController();
    const pausing = new AbortController();
    await new Promise<void>((onPlaced) => {
      const signals = { signal: stopping.signal, pause: pausing.signal };
      const work = taken.settle(() => run(id, { ...signals, isLast: taken.isLast, resumes, onPlaced }));
      const ended = work.finally(() => {
        held.delete(taken.name);
        onPlaced();
        alarm.ring();
      });
      held.set(taken.name, { id, taken, entry, since, stopping, pausing, ended });
    });
    // The stop may have come while this job was taken.
    if (isClosing) stopping.abort('shutdown' satisfies StopReason);
  };

  /** Does what `chooseNext` says until it says to wait. @returns for how long, in milliseconds */
  const look = async (): Promise<number> => {
    for (;;) {
      const queue = await order.snapshot();
      let choice = choose(queue, []);
      // Where it would load a base, another may have it.
      const warm = mustLoad(choice) ? await order.otherWarmWorkers(workerName) : [];
      if (warm.length > 0) choice = choose(queue, warm);
      if (choice.action === 'wait') {
        const untilMs = choice.untilMs === null ? Number.POSITIVE_INFINITY : choice.untilMs - queue.now;
        return Math.min(untilMs, lookEveryMs);
      }
      await order.locked(async () => {
        let current: QueueSnapshot | null = await order.snapshot();
        while (current !== null && !isClosing) current = await act(choose(current, warm), current);
      });
    }
  };

  /** @returns the queue after that; null: there is nothing more to do, or it must be read again */
  const act = async (choice: Choice, queue: QueueSnapshot): Promise<QueueSnapshot | null> => {
    if (choice.action === 'take') return await take(choice.waiting.entry, queue);
    if (choice.action === 'wait') return null;
    target = choice.target.id;
    await order.aim(target, workerName);
    const ids = choice.leased.map(({ id }) => id);
    log.info({ jobs: ids, for: target }, 'paused for a job that has waited for its turn');
    for (const one of held.values()) if (ids.includes(one.id)) one.pausing.abort();
    return null;
  };

  const mustLoad = (choice: Choice): boolean => {
    const job = choice.action === 'take' ? choice.waiting.job : null;
    const appetite = appetiteNow();
    return job !== null && appetite !== null && !isOnBase({ job }, appetite);
  };

  const announce = async (): Promise<void> => {
    await order.announce(workerName, {
      slots: jobsAtOnce,
      held: [...held.values()].map(({ id }) => id),
      workerClass,
      warm: warmNow(),
      load: options.load(),
    });
  };
  // Other workers leave jobs to this one by what it has said last.
  let announced = '';
  const announceIfChanged = (): void => {
    const warm = JSON.stringify(warmNow());
    if (warm === announced) return;
    announced = warm;
    void announce().catch(() => {});
  };

  const loop = async (): Promise<void> => {
    await worker.waitUntilReady();
    await worker.startStalledCheckTimer();
    while (!isClosing) {
      const waitMs = await look().catch((error: unknown) => {
        log.warn({ err: error }, 'no job could be taken; it will be tried again');
        return lookEveryMs;
      });
      if (isClosing) return;
      announceIfChanged();
      await alarm.wait(waitMs);
    }
  };

  let isRenewing = false;
  const renewLocks = async (): Promise<void> => {
    if (held.size === 0 || isRenewing) return;
    isRenewing = true;
    try {
      const mine = [...held].map(([name, { taken }]) => ({ name, token: taken.token }));
      const lost = await worker.extendJobLocks(
        mine.map(({ name }) => name),
        mine.map(({ token }) => token),
        lockMs,
      );
      for (const name of lost) held.get(name)?.stopping.abort('lost-lock' satisfies StopReason);
    } catch (error) {
      log.warn({ err: error }, 'the locks of the running jobs could not be renewed');
    } finally {
      isRenewing = false;
    }
  };

  events.on('waiting', () => {
    // A worker that can take nothing need not read the queue now.
    if (appetiteNow() !== null) alarm.ring();
  });
  const stopListening = pool.onChange(() => alarm.ring());
  // A trainer never blocks this process, so a renewal is late only when Redis is.
  const renewal = setInterval(() => void renewLocks(), lockMs / 4);
  const announcing = setInterval(() => void announce().catch(() => {}), ANNOUNCE_EVERY_MS);
  const looping = loop();
  looping.catch((error: unknown) => log.error({ err: error }, 'the queue could not be reached'));

  const close = async (force: boolean): Promise<void> => {
    clearInterval(renewal);
    clearInterval(announcing);
    stopListening();
    await Promise.all([worker.close(force), events.close()]);
  };

  return {
    ready: async () => {
      await worker.waitUntilReady();
    },
    async stop() {
      isClosing = true;
      alarm.ring();
      for (const { stopping } of held.values()) stopping.abort('shutdown' satisfies StopReason);
      await looping.catch(() => {});
      await Promise.all([...held.values()].map(({ ended }) => ended));
      await order.leave(workerName).catch(() => {});
      await close(false);
    },
    abandon: () => close(true),
  };
}

function heldJob({ id, entry, since, pausing }: Held): LeasedJob[] {
  return entry === null ? [] : [{ id, entry, since, isPausing: pausing.signal.aborted }];
}

function withoutTaken(queue: QueueSnapshot, name: string): QueueSnapshot {
  const taken = queue.waiting.find(({ entry }) => entry === name);
  const keys = new Map(queue.keys);
  const use = taken?.job ? keys.get(taken.job.key) : undefined;
  if (taken?.job && use) keys.set(taken.job.key, { ...use, leased: use.leased + 1 });
  return { ...queue, keys, waiting: queue.waiting.filter(({ entry }) => entry !== name) };
}
