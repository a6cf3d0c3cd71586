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
  /** The time to wait if there is no event yet. @defaultValue 0 */
  blockMs?: number | undefined;
  /** Ends the wait. */
  signal?: AbortSignal | undefined;
}

export interface NewestEventsOptions {
  /** Id of the last event of the previous page: returns only older ones. @defaultValue all events */
  after?: string | undefined;
  limit: number;
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

/** The events of jobs, or those of sweeps. */
export class EventStream<Event extends { id: string }> {
  readonly #options: EventStreamOptions<Event>;

  constructor(options: EventStreamOptions<Event>) {
    this.#options = options;
  }

  /** Oldest first. @throws ProductError that of `missing`; `invalid_request` for an `after` that is not the id of an event */
  async read(id: string, { after, limit = 100, blockMs = 0, signal }: ReadEventsOptions = {}): Promise<Paged<Event>> {
    checkEventId(after);
    const first = await this.#readNow(id, after, limit);
    if (first.data.length > 0 || blockMs <= 0) return first;
    // Subscribe before the second read, so that no event in between is missed.
    const notice = this.#options.notices.listen(id);
    try {
      await notice.ready;
      const second = await this.#readNow(id, after, limit);
      if (second.data.length > 0) return second;
      await notice.wait(blockMs, signal);
    } finally {
      notice.close();
    }
    return await this.#readNow(id, after, limit);
  }

  /** Newest first. `next` is the `after` of the next page. @throws ProductError as {@link read} */
  async newest(id: string, { after, limit }: NewestEventsOptions): Promise<Paged<Event>> {
    checkEventId(after);
    const end = after === undefined ? '+' : `(${after}`;
    return await this.#page(id, limit, (transaction, events) =>
      transaction.xrevrange(events, end, '-', 'COUNT', limit + 1),
    );
  }

  async #readNow(id: string, after: string | undefined, limit: number): Promise<Paged<Event>> {
    const start = after === undefined ? '-' : `(${after}`;
    return await this.#page(id, limit, (transaction, events) =>
      transaction.xrange(events, start, '+', 'COUNT', limit + 1),
    );
  }

  /** @param addRead - Adds a command that reads one more event than requested, which shows that there are more. */
  async #page(
    id: string,
    limit: number,
    addRead: (transaction: ChainableCommander, events: string) => ChainableCommander,
  ): Promise<Paged<Event>> {
    const { redis, record, events, eventOf, missing } = this.#options;
    const transaction = addRead(redis.multi().exists(record(id)), events(id));
    const [exists, entries] = repliesOf(await transaction.exec()) as [number, [string, string[]][]];
    if (exists === 0) throw missing(id);
    const data = entries.slice(0, limit).map(([eventId, fields]) => eventOf(id, storedEvent(eventId, fields)));
    return { data, has_more: entries.length > limit, next: data.at(-1)?.id ?? null };
  }
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
