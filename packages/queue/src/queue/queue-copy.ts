import type { JobId } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { JobKeys } from '../keys.js';
import { repliesOf } from '../redis/redis-errors.js';
import { type JobQueue, jobOfBullId, QUEUE_NAME } from './job-queue.js';
import type { QueueEntry, WaitingJob } from './queue-entry.js';

/** The time after which everything is read again: somebody may have changed BullMQ's lists by hand. */
const REREAD_MS = 600_000;

type BullState = 'waiting' | 'leased' | 'gone';

/** The state of a job in BullMQ after an event of it. Other events change none. */
const STATE_AFTER: Readonly<Record<string, BullState>> = {
  waiting: 'waiting',
  active: 'leased',
  completed: 'gone',
  failed: 'gone',
  removed: 'gone',
  delayed: 'gone',
};

type LogLine = [position: string, fields: string[]];

/** The jobs that wait and those that workers have leased. */
export interface QueueContents {
  /** The waiting jobs in the order of their positions. */
  waiting: WaitingJob[];
  leased: JobId[];
  /** Null: the job has ended, was deleted or is paused. */
  entryOf(id: JobId): QueueEntry | null;
}

/**
 * A copy of the queue in the memory of this process, which is kept current by reading what has changed since, so that a look at the queue does not
 * read all that waits.
 *
 * Two logs in Redis have the changes, each written in the script that makes the change: BullMQ's events, and the changes of entries
 * (`JobKeys.queueChanges`). Both are streams that drop their oldest lines. Each reading starts with the line that was read last: if it
 * is not there any more, changes may have been missed, or Redis has lost data, and everything is read again.
 */
export class QueueCopy {
  readonly #redis: Redis;
  readonly #keys: JobKeys;
  readonly #queue: JobQueue;
  /** The last lines that were read of both logs; null: one of them was empty. */
  #positions: [events: string, changes: string] | null = null;
  #readAllAt = 0;
  #entries = new Map<JobId, QueueEntry>();
  /** The leased jobs by their ids in BullMQ. */
  #leased = new Map<string, JobId>();
  #waiting: WaitingJob[] = [];
  /** A job waits several times when it was resumed before a worker removed it from BullMQ as it was before. */
  #waitingOf = new Map<JobId, WaitingJob[]>();
  #reading: Promise<unknown> = Promise.resolve();

  constructor({ redis, keys, queue }: { redis: Redis; keys: JobKeys; queue: JobQueue }) {
    this.#redis = redis;
    this.#keys = keys;
    this.#queue = queue;
  }

  /** The queue as it is now. */
  read(): Promise<QueueContents> {
    const contents = this.#reading.then(() => this.#readNow());
    this.#reading = contents.catch(() => this.forget());
    return contents;
  }

  /** Lets the next reading read everything. */
  forget(): void {
    this.#positions = null;
  }

  async #readNow(): Promise<QueueContents> {
    const isOld = performance.now() - this.#readAllAt > REREAD_MS;
    if (this.#positions === null || isOld || !(await this.#readChanges(this.#positions))) await this.#readAll();
    return {
      waiting: [...this.#waiting],
      leased: [...this.#leased.values()],
      entryOf: (id) => this.#entries.get(id) ?? null,
    };
  }

  /** The keys of the logs. Entries are written before BullMQ gets them, so BullMQ's events are read first. */
  get #logs(): [events: string, changes: string] {
    return [`${this.#keys.queuePrefix}:${QUEUE_NAME}:events`, this.#keys.queueChanges];
  }

  /**
   * Applies what both logs have since these lines.
   * @returns false: everything must be read, since a line is not there, or a job waits whose entry is unknown
   */
  async #readChanges(positions: [events: string, changes: string]): Promise<boolean> {
    const look = this.#redis.pipeline();
    for (const [i, log] of this.#logs.entries()) look.xrange(log, positions[i]!, '+');
    const [events = [], changes = []] = repliesOf(await look.exec()) as LogLine[][];
    if (events[0]?.[0] !== positions[0] || changes[0]?.[0] !== positions[1]) return false;
    const added = new Set<JobId>();
    for (const [, fields] of events.slice(1)) {
      const { event = '', jobId } = fieldsOf(fields);
      const state = STATE_AFTER[event];
      if (state === undefined || jobId === undefined) continue;
      this.#move(jobId, state);
      if (state === 'waiting') added.add(jobOfBullId(jobId).id);
    }
    for (const [, fields] of changes.slice(1)) {
      const { id, entry } = fieldsOf(fields);
      this.#setEntry(id as JobId, entry ? (JSON.parse(entry) as QueueEntry) : null);
    }
    this.#positions = [events.at(-1)![0], changes.at(-1)![0]];
    // While an older version of the service is being replaced, it adds jobs that this log does not have.
    return [...added].every((id) => this.#entries.has(id) || !this.#waitingOf.has(id));
  }

  /**
   * Reads everything. What changes meanwhile is applied afterwards, also what was read already: the last change of an entry decides.
   */
  async #readAll(): Promise<void> {
    this.#readAllAt = performance.now();
    const look = this.#redis.pipeline();
    for (const log of this.#logs) look.xrevrange(log, '+', '-', 'COUNT', 1);
    const [lastEvent, lastChange] = (repliesOf(await look.exec()) as LogLine[][]).map(([line]) => line?.[0]);
    const { waiting, leased } = await this.#queue.bullIds();
    const texts = await this.#redis.hgetall(this.#keys.queueEntries);
    this.#entries = new Map(
      Object.entries(texts).map(([id, text]) => [id as JobId, JSON.parse(text) as QueueEntry] as const),
    );
    this.#leased = new Map(leased.map((bullId) => [bullId, jobOfBullId(bullId).id]));
    this.#waiting = waiting
      .map((bullId) => this.#waitingJob(bullId))
      .sort((one, other) => positionOf(one) - positionOf(other));
    this.#waitingOf = new Map();
    for (const job of this.#waiting) this.#waitingOf.set(job.id, [...(this.#waitingOf.get(job.id) ?? []), job]);
    this.#positions = lastEvent === undefined || lastChange === undefined ? null : [lastEvent, lastChange];
    // A log that has dropped lines even since then is read again with everything else, next time.
    if (this.#positions !== null && !(await this.#readChanges(this.#positions))) this.forget();
  }

  #waitingJob(bullId: string): WaitingJob {
    const { id } = jobOfBullId(bullId);
    return { bullId, id, entry: this.#entries.get(id) ?? null };
  }

  #move(bullId: string, state: BullState): void {
    const { id } = jobOfBullId(bullId);
    this.#leased.delete(bullId);
    if (state === 'leased') this.#leased.set(bullId, id);
    const others = (this.#waitingOf.get(id) ?? []).filter((one) => one.bullId !== bullId);
    this.#setWaiting(id, state === 'waiting' ? [...others, this.#waitingJob(bullId)] : others);
  }

  #setEntry(id: JobId, entry: QueueEntry | null): void {
    if (entry === null) this.#entries.delete(id);
    else this.#entries.set(id, entry);
    this.#setWaiting(
      id,
      (this.#waitingOf.get(id) ?? []).map((one) => ({ ...one, entry })),
    );
  }

  /** Replaces a job in the list of those that wait. */
  #setWaiting(id: JobId, jobs: WaitingJob[]): void {
    for (const before of this.#waitingOf.get(id) ?? []) {
      const from = firstIndexAt(this.#waiting, positionOf(before));
      this.#waiting.splice(this.#waiting.indexOf(before, from), 1);
    }
    for (const job of jobs) this.#waiting.splice(firstIndexAt(this.#waiting, positionOf(job)), 0, job);
    if (jobs.length === 0) this.#waitingOf.delete(id);
    else this.#waitingOf.set(id, jobs);
  }
}

/** The position of a job in the line of its API key. Those without an entry are first. */
function positionOf({ entry }: WaitingJob): number {
  return entry === null ? Number.MIN_SAFE_INTEGER : entry.place;
}

/** The index of the first of the sorted jobs whose position is at least this one. */
function firstIndexAt(waiting: readonly WaitingJob[], position: number): number {
  let [from, to] = [0, waiting.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (positionOf(waiting[middle]!) < position) from = middle + 1;
    else to = middle;
  }
  return from;
}

function fieldsOf(fields: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(fields.flatMap((name, i) => (i % 2 === 0 ? [[name, fields[i + 1]]] : [])));
}
