import { type JobEvent, type JobId, type NewJobEvent, type Paged, ProductError } from '@lorasmith/contracts';
import { createEventNotices, repliesOf } from '@lorasmith/redis';
import type { ChainableCommander, Redis } from 'ioredis';
import type { JobKeys } from './keys.js';

const EVENT_ID = /^\d{1,19}(-\d{1,19})?$/;

export interface ReadEventsOptions {
  /** Returns only events after the one with this id. @defaultValue all events */
  after?: string | undefined;
  /** @defaultValue 100 */
  limit?: number | undefined;
  /** How long to wait if there is no event yet. @defaultValue 0 */
  blockMs?: number | undefined;
  /** Ends the wait. */
  signal?: AbortSignal | undefined;
}

export interface NewestEventsOptions {
  /** Id of the last event of the previous page: returns only older ones. @defaultValue all events */
  after?: string | undefined;
  limit: number;
}

export interface EventStream {
  /** @throws ProductError `job_not_found`, `invalid_request` for an `after` that is not the id of an event */
  read(id: JobId, options?: ReadEventsOptions): Promise<Paged<JobEvent>>;
  /** Newest first. `next` is the `after` of the next page. @throws ProductError as {@link read} */
  newest(id: JobId, options: NewestEventsOptions): Promise<Paged<JobEvent>>;
  close(): void;
}

/** Reads the events of jobs. All waiting readers share one extra connection. */
export function createEventStream({ redis, keys }: { redis: Redis; keys: JobKeys }): EventStream {
  const notices = createEventNotices({ redis, channel: keys.eventChannel });

  /** Reads one more than requested, which shows whether there are more. */
  const readNow = async (id: JobId, after: string | undefined, limit: number): Promise<Paged<JobEvent>> =>
    await pageOf(id, limit, (transaction) =>
      transaction.xrange(keys.events(id), after === undefined ? '-' : `(${after}`, '+', 'COUNT', limit + 1),
    );

  const pageOf = async (
    id: JobId,
    limit: number,
    addRead: (transaction: ChainableCommander) => ChainableCommander,
  ): Promise<Paged<JobEvent>> => {
    const [exists, entries] = repliesOf(await addRead(redis.multi().exists(keys.job(id))).exec()) as [
      number,
      [string, string[]][],
    ];
    if (exists === 0) throw new ProductError('job_not_found', `There is no job ${id}.`);
    const data = entries.slice(0, limit).map(([eventId, fields]) => eventOfEntry(id, eventId, fields));
    return { data, has_more: entries.length > limit, next: data.at(-1)?.id ?? null };
  };

  return {
    async read(id, { after, limit = 100, blockMs = 0, signal } = {}) {
      checkEventId(after);
      const first = await readNow(id, after, limit);
      if (first.data.length > 0 || blockMs <= 0) return first;
      // Subscribe before the second read, so that no event in between is missed.
      const notice = notices.listen(id);
      try {
        await notice.ready;
        const second = await readNow(id, after, limit);
        if (second.data.length > 0) return second;
        await notice.wait(blockMs, signal);
      } finally {
        notice.close();
      }
      return await readNow(id, after, limit);
    },
    async newest(id, { after, limit }) {
      checkEventId(after);
      const end = after === undefined ? '+' : `(${after}`;
      return await pageOf(id, limit, (transaction) =>
        transaction.xrevrange(keys.events(id), end, '-', 'COUNT', limit + 1),
      );
    },
    close: () => notices.close(),
  };
}

function checkEventId(id: string | undefined): void {
  if (id === undefined || EVENT_ID.test(id)) return;
  throw new ProductError('invalid_request', 'after is not the id of an event. Send an id as it was received.', {
    param: 'after',
  });
}

function eventOfEntry(job: JobId, id: string, fields: string[]): JobEvent {
  const [, type, , data] = fields as [string, NewJobEvent['type'], string, string];
  // The first part of an id is the time of the Redis server.
  const created_at = new Date(Number(id.split('-', 1)[0])).toISOString();
  return { id, job, created_at, type, data: JSON.parse(data) } as JobEvent;
}
