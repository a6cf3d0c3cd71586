import { type Paged, ProductError } from '@lorasmith/contracts';
import type { ChainableCommander, Redis } from 'ioredis';
import type { EventNotices } from '../redis/event-notices.js';
import { repliesOf } from '../redis/redis-errors.js';

/** Approximate maximum of stored events per job or sweep. Steps are thinned, so that the events reach back to the start. */
export const MAX_EVENTS = 20_000;
/** Limits, for docs/limits.md. */
export const eventLimits = {
  events: { value: MAX_EVENTS, unit: 'events, about', beyond: 'the oldest are removed' },
};

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

export interface EventStream<Event> {
  /** @throws ProductError that of `missing`; `invalid_request` for an `after` that is not the id of an event */
  read(id: string, options?: ReadEventsOptions): Promise<Paged<Event>>;
  /** Newest first. `next` is the `after` of the next page. @throws ProductError as {@link read} */
  newest(id: string, options: NewestEventsOptions): Promise<Paged<Event>>;
}

/** An event as it is stored. */
export interface StoredEvent {
  id: string;
  created_at: string;
  type: string;
  data: unknown;
}

export interface EventStreamOptions<Event> {
  redis: Redis;
  /** Receive the id of what has a new event. */
  notices: EventNotices;
  /** The key of the record without which there are no events. */
  record(id: string): string;
  /** The key of the stream. */
  events(id: string): string;
  eventOf(id: string, stored: StoredEvent): Event;
  /** The error if there is no record. */
  missing(id: string): ProductError;
}

/** Reads the events of jobs, or those of sweeps. */
export function createEventStream<Event extends { id: string }>(
  options: EventStreamOptions<Event>,
): EventStream<Event> {
  const { redis, notices, eventOf, missing } = options;

  /** Reads one more than requested, which shows whether there are more. */
  const readNow = async (id: string, after: string | undefined, limit: number): Promise<Paged<Event>> =>
    await pageOf(id, limit, (transaction) =>
      transaction.xrange(options.events(id), after === undefined ? '-' : `(${after}`, '+', 'COUNT', limit + 1),
    );

  const pageOf = async (
    id: string,
    limit: number,
    addRead: (transaction: ChainableCommander) => ChainableCommander,
  ): Promise<Paged<Event>> => {
    const [exists, entries] = repliesOf(await addRead(redis.multi().exists(options.record(id))).exec()) as [
      number,
      [string, string[]][],
    ];
    if (exists === 0) throw missing(id);
    const data = entries.slice(0, limit).map(([eventId, fields]) => eventOf(id, storedEvent(eventId, fields)));
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
        transaction.xrevrange(options.events(id), end, '-', 'COUNT', limit + 1),
      );
    },
  };
}

function checkEventId(id: string | undefined): void {
  if (id === undefined || EVENT_ID.test(id)) return;
  throw new ProductError('invalid_request', 'after is not the id of an event. Send an id as it was received.', {
    param: 'after',
  });
}

function storedEvent(id: string, fields: string[]): StoredEvent {
  const [, type, , data] = fields as [string, string, string, string];
  // The first part of an id is the time of the Redis server.
  const created_at = new Date(Number(id.split('-', 1)[0])).toISOString();
  return { id, created_at, type, data: JSON.parse(data) };
}
