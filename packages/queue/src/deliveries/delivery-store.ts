import { createHash } from 'node:crypto';
import {
  type AdapterId,
  Delivery,
  type DeliveryEvent,
  type DeliveryId,
  type DeliveryTarget,
  deliveryPlace,
  deliveryPlaceField,
  type JobId,
  newIdentifier,
  type Owner,
  type Paged,
  ProductError,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { EventStream, MAX_EVENTS, type ReadEventsOptions } from '../events/event-stream.js';
import type { JobKeys } from '../keys.js';
import type { EventNotices } from '../redis/event-notices.js';
import { luaScript } from '../redis/lua-script.js';

/** Records beyond this number push out the oldest that have ended. */
const MAX_DELIVERIES = 10_000;
/** Unfinished deliveries that calls have asked for. Those of jobs are bounded by the jobs. */
const MAX_OPEN = 1_000;
/** Deliveries of an adapter that a list has. */
const MAX_LISTED = 100;
/** Jobs whose deliveries are created in one round. */
const JOBS_AT_ONCE = 16;
/** Limits, for docs/limits.md. */
export const deliveryLimits = {
  kept: { value: MAX_DELIVERIES, unit: 'deliveries', beyond: 'the oldest ended one is removed' },
  open: { value: MAX_OPEN, unit: 'deliveries', beyond: '429 `queue_full`; those of jobs do not count' },
  listed: { value: MAX_LISTED, unit: 'deliveries', beyond: 'the newest are listed' },
};
/** A process that has not renewed its lease for this long has died, and another resumes its delivery. */
export const DELIVERY_LEASE_MS = 30_000;

const createScript = luaScript(import.meta.url, './deliveries.lua', 'create_delivery');
const claimScript = luaScript(import.meta.url, './deliveries.lua', 'claim_delivery');
const writeScript = luaScript(import.meta.url, './deliveries.lua', 'write_delivery');
const postponeScript = luaScript(import.meta.url, './deliveries.lua', 'postpone_delivery');
const endScript = luaScript(import.meta.url, './deliveries.lua', 'end_delivery');
const askToCancelScript = luaScript(import.meta.url, './deliveries.lua', 'ask_to_cancel');

export interface NewDelivery {
  adapter: AdapterId;
  owner: Owner;
  to: DeliveryTarget;
  /** The name of what is replaced. Deliveries to the same place run one after the other. */
  place: string;
  /** True if it may replace what another key has delivered there. */
  mayReplaceAny: boolean;
  /** The job that asked for it, which one of its deliveries this is, and where its end is reported. @defaultValue a call asked */
  ofJob?: { job: JobId; index: number; webhookUrl: string | null };
  /** The move of a name that it follows. @defaultValue it follows none */
  ofMove?: FollowedMove;
}

/** A move of a name that deliveries follow. */
export interface FollowedMove {
  /** Owner and name in one text. */
  key: string;
  name: string;
  version: number;
  /** The time of the move. A name that was removed may begin with the first version again. */
  at: string;
}

/** A delivery that a process has leased. */
export interface ClaimedDelivery {
  delivery: Delivery;
  /** Names the lease. */
  token: string;
  /** The JSON that an earlier attempt kept; null: none. */
  state: string | null;
  /** `overtaken`: a later one to the same place has been delivered. `taken`: another key's is there. */
  verdict: 'free' | 'overtaken' | 'taken';
}

/** The deliveries that a job which has succeeded asked for. */
export interface DeliveriesOfJob {
  job: JobId;
  owner: Owner;
  adapter: AdapterId;
  webhookUrl: string | null;
  to: DeliveryTarget[];
}

/** Deliveries of adapters, in Redis: their records, and who works on them. */
export class DeliveryStore {
  readonly #redis: Redis;
  readonly #keys: JobKeys;
  readonly #events: EventStream<DeliveryEvent>;

  /** @param options - `notices` receive the id of a delivery that has a new event. */
  constructor({ redis, keys, notices }: { redis: Redis; keys: JobKeys; notices: EventNotices }) {
    this.#redis = redis;
    this.#keys = keys;
    this.#events = new EventStream<DeliveryEvent>({
      redis,
      notices,
      // A delivery has its first event from its creation on, and the last until its record is removed.
      record: keys.deliveryEvents,
      events: keys.deliveryEvents,
      eventOf: (delivery, { id, ...event }) => ({ id, delivery, ...event }) as DeliveryEvent,
      missing: deliveryNotFound,
    });
  }

  /**
   * Queues a delivery. Of a job or of the move of a name, it is created once, however often this is called. A later move has no effect of an
   * earlier one after it: the delivery is then returned, and not queued.
   * @throws ProductError `conflict` if another key has delivered to this place, `queue_full`
   */
  async create({ adapter, owner, to, place, mayReplaceAny, ofJob, ofMove }: NewDelivery): Promise<Delivery> {
    const own = ofMove === undefined ? newIdentifier('dl') : idOfMove(ofMove, to);
    const delivery: Delivery = {
      id: ofJob === undefined ? own : idOfJob(ofJob),
      object: 'delivery',
      adapter,
      owner,
      job: ofJob?.job ?? null,
      alias: ofMove === undefined ? null : { name: ofMove.name, version: ofMove.version },
      to,
      status: 'queued',
      attempts: 0,
      next_attempt_at: null,
      error: null,
      probe: null,
      replaced: null,
      created_at: new Date().toISOString(),
      started_at: null,
      ended_at: null,
    };
    const outcome = await createScript(
      this.#redis,
      this.#keysOf(delivery.id),
      {
        ...this.#reportOf(delivery.id, JSON.stringify(delivery)),
        target: createHash('sha256').update(place).digest('hex'),
        owner: owner ?? '',
        any: mayReplaceAny ? '1' : '',
        adapter,
        max_deliveries: MAX_DELIVERIES,
        max_open: ofJob === undefined && ofMove === undefined ? MAX_OPEN : '',
        follows: ofMove?.key ?? '',
        move: ofMove?.version ?? '',
      },
      ofJob?.webhookUrl == null ? [] : [`${delivery.id}:webhook`, ofJob.webhookUrl],
    );
    if (outcome === 'taken') throw takenByOther(to);
    if (outcome === 'full') {
      const message = `${MAX_OPEN} deliveries are unfinished. Wait for some, or cancel them.`;
      throw new ProductError('queue_full', message, { retryAfterSeconds: 60 });
    }
    return delivery;
  }

  /** @throws ProductError `delivery_not_found` */
  async get(id: DeliveryId): Promise<Delivery> {
    const delivery = parsed(await this.#redis.hget(this.#keys.deliveries, id));
    if (delivery === null) throw deliveryNotFound(id);
    return delivery;
  }

  /** Undefined if it does not exist. */
  async ownerOf(id: DeliveryId): Promise<Owner | undefined> {
    const owner = await this.#redis.hget(this.#keys.deliveries, `${id}:owner`);
    if (owner === null) return undefined;
    return owner === '' ? null : owner;
  }

  /** The deliveries of the move of a name to these places, as far as they have been created. */
  async ofMove(move: FollowedMove, to: readonly DeliveryTarget[]): Promise<Delivery[]> {
    if (to.length === 0) return [];
    const ids = to.map((target) => idOfMove(move, target));
    return (await this.#redis.hmget(this.#keys.deliveries, ...ids)).flatMap((text) => parsed(text) ?? []);
  }

  /** Notes that all deliveries of the move of a name have been created. @param to - Their places. */
  async createdOfMove(move: FollowedMove, to: readonly DeliveryTarget[]): Promise<void> {
    await this.#redis.hset(this.#keys.deliveriesFollowed, `${move.key}${DONE}`, stateOf(move, to));
  }

  /** Selects the moves whose deliveries have not all been created. */
  async toFollow<Move extends { move: FollowedMove; to: readonly DeliveryTarget[] }>(
    moves: readonly Move[],
  ): Promise<Move[]> {
    if (moves.length === 0) return [];
    const fields = moves.map(({ move: { key } }) => `${key}${DONE}`);
    const done = await this.#redis.hmget(this.#keys.deliveriesFollowed, ...fields);
    return moves.filter(({ move, to }, index) => done[index] !== stateOf(move, to));
  }

  /** Forgets the moves of a name that was removed. @param key - See {@link FollowedMove}. */
  async forgetMoves(key: string): Promise<void> {
    await this.#redis.hdel(this.#keys.deliveriesFollowed, key, `${key}${DONE}`);
  }

  /** The newest deliveries of an adapter, newest first. */
  async ofAdapter(adapter: AdapterId): Promise<Delivery[]> {
    const bounds = [`[${adapter}:~`, `[${adapter}:`] as const;
    const places = await this.#redis.zrevrangebylex(this.#keys.deliveriesByAdapter, ...bounds, 'LIMIT', 0, MAX_LISTED);
    if (places.length === 0) return [];
    const ids = places.map((place) => place.slice(place.lastIndexOf(':') + 1));
    return (await this.#redis.hmget(this.#keys.deliveries, ...ids)).flatMap((text) => parsed(text) ?? []);
  }

  /** Ends a delivery that nobody works on, and asks the process that works on any other to stop. @throws ProductError `delivery_not_found` */
  async cancel(id: DeliveryId): Promise<Delivery> {
    for (;;) {
      const text = await this.#redis.hget(this.#keys.deliveries, id);
      const delivery = parsed(text);
      if (text === null || delivery === null) throw deliveryNotFound(id);
      if (delivery.ended_at !== null) return delivery;
      if ((await askToCancelScript(this.#redis, this.#keysOf(id), { id })) === 1) return delivery;
      const cancelled = ended(delivery, { status: 'cancelled', error: null });
      if ((await this.#end(cancelled, { token: '', expected: text })) === 'done') return cancelled;
    }
  }

  /** Oldest first. @throws ProductError `delivery_not_found`, `invalid_request` */
  async readEvents(id: DeliveryId, options?: ReadEventsOptions): Promise<Paged<DeliveryEvent>> {
    return await this.#events.read(id, options);
  }

  /** The number of deliveries that have ever ended, by kind and status, for monitoring. */
  async endedCounts(): Promise<{ kind: string; status: string; count: number }[]> {
    const counts = await this.#redis.hgetall(this.#keys.deliveriesEnded);
    return Object.entries(counts).map(([counted, count]) => {
      const [kind = '', status = ''] = counted.split(':');
      return { kind, status, count: Number(count) };
    });
  }

  /** The number of unfinished deliveries, for monitoring. */
  async count(): Promise<number> {
    return await this.#redis.zcard(this.#keys.deliveriesDue);
  }

  /** Takes the next delivery that is due; null: none is. */
  async claim(): Promise<ClaimedDelivery | null> {
    const token = newIdentifier('req');
    const claimed = await claimScript(this.#redis, this.#sharedKeys, { token, lease_ms: DELIVERY_LEASE_MS });
    if (claimed === null) return null;
    const [id, text, state, attempts, verdict] = claimed as [
      DeliveryId,
      string,
      string,
      number,
      ClaimedDelivery['verdict'],
    ];
    const delivery = parsed(text);
    if (delivery === null) throw new ProductError('internal_error', `The record of ${id} is damaged.`);
    return { delivery: { ...delivery, attempts }, token, state: state === '' ? null : state, verdict };
  }

  /** Renews the lease, and writes the record, the event that reports it and what the next attempt must know. */
  async write(
    id: DeliveryId,
    token: string,
    { delivery, state, event }: { delivery?: Delivery; state?: string; event?: 'delivery-started' } = {},
  ): Promise<'done' | 'cancel' | 'lost'> {
    const record = delivery === undefined ? '' : JSON.stringify(delivery);
    const more = { token, lease_ms: DELIVERY_LEASE_MS, state: state ?? '', event_type: event ?? '' };
    const args = { ...this.#reportOf(id, record), ...more };
    return (await writeScript(this.#redis, this.#keysOf(id), args)) as 'done' | 'cancel' | 'lost';
  }

  /** Gives a delivery back, to be taken again after `delayMs`. @param counts - false: its attempt does not count */
  async postpone(delivery: Delivery, token: string, { delayMs, counts }: { delayMs: number; counts: boolean }) {
    const report = this.#reportOf(delivery.id, JSON.stringify(delivery));
    const args = { ...report, token, delay_ms: delayMs, uncounted: counts ? '' : 'yes' };
    await postponeScript(this.#redis, this.#keysOf(delivery.id), args);
  }

  /** Ends a delivery, and reports that to the webhooks. */
  async end(
    delivery: Delivery,
    token: string,
    end: Pick<Delivery, 'status' | 'error'>,
  ): Promise<'done' | 'lost' | 'changed'> {
    return await this.#end(ended(delivery, end), { token, expected: '' });
  }

  /** Jobs that have succeeded, whose deliveries are still to be created. */
  async ofJobs(): Promise<DeliveriesOfJob[]> {
    const some = await this.#redis.hrandfield(this.#keys.jobDeliveries, JOBS_AT_ONCE, 'WITHVALUES');
    const found = (some ?? []) as string[];
    const jobs: DeliveriesOfJob[] = [];
    for (let i = 0; i < found.length; i += 2) {
      const stored = JSON.parse(found[i + 1]!) as { owner: string; url: string; data: string; deliver: string };
      jobs.push({
        job: found[i]!,
        owner: stored.owner === '' ? null : stored.owner,
        adapter: (JSON.parse(stored.data) as { adapter: AdapterId }).adapter,
        webhookUrl: stored.url === '' ? null : stored.url,
        to: JSON.parse(stored.deliver) as DeliveryTarget[],
      });
    }
    return jobs;
  }

  /** All deliveries of the job have been created. */
  async createdOfJob(job: JobId): Promise<void> {
    await this.#redis.hdel(this.#keys.jobDeliveries, job);
  }

  async #end(delivery: Delivery, { token, expected }: { token: string; expected: string }) {
    const { id, status, to } = delivery;
    const report = this.#reportOf(id, JSON.stringify(delivery));
    const args = { ...report, token, expected, status, counted: `${to.kind}:${status}` };
    return (await endScript(this.#redis, this.#keysOf(id), args)) as 'done' | 'lost' | 'changed';
  }

  /** The arguments of `includes/delivery-reports.lua`. */
  #reportOf(id: DeliveryId, record: string) {
    return { id, record, event_channel: this.#keys.eventChannel, max_events: MAX_EVENTS };
  }

  #keysOf(id: DeliveryId) {
    return { ...this.#sharedKeys, events: this.#keys.deliveryEvents(id) };
  }

  get #sharedKeys() {
    const keys = this.#keys;
    return {
      deliveries: keys.deliveries,
      due: keys.deliveriesDue,
      active: keys.deliveriesActive,
      current: keys.deliveriesCurrent,
      all: keys.deliveriesAll,
      by_adapter: keys.deliveriesByAdapter,
      sequence_counter: keys.sequence,
      followed: keys.deliveriesFollowed,
      ended_counts: keys.deliveriesEnded,
      webhooks_due: keys.webhooksDue,
      webhook_messages: keys.webhookMessages,
      webhook_for_all: keys.webhookForAll,
    };
  }
}

/** The error for a delivery that does not exist, or that the caller may not use. */
export function deliveryNotFound(id: string): ProductError {
  return new ProductError('delivery_not_found', `There is no delivery ${JSON.stringify(id.slice(0, 100))}.`);
}

/** The error of a delivery to a place at which another key's adapter is. */
export function takenByOther(to: DeliveryTarget): ProductError {
  const message = `Another key has delivered an adapter to this place (${deliveryPlace(to)}). Use another one.`;
  return new ProductError('conflict', message, { param: deliveryPlaceField(to) });
}

function ended(delivery: Delivery, end: Pick<Delivery, 'status' | 'error'>): Delivery {
  return { ...delivery, ...end, next_attempt_at: null, ended_at: new Date().toISOString() };
}

/** The same for every attempt to create it. */
function idOfJob({ job, index }: { job: JobId; index: number }): DeliveryId {
  return idFrom(`${job} ${index}`);
}

/** The same for every attempt to create it. */
function idOfMove({ key, version, at }: FollowedMove, to: DeliveryTarget): DeliveryId {
  return idFrom(`${key} ${version} ${at} ${JSON.stringify(to)}`);
}

function idFrom(text: string): DeliveryId {
  return `dl_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
}

/** The end of the field that says what of a move is complete. */
const DONE = ':done';

function stateOf({ version, at }: FollowedMove, to: readonly DeliveryTarget[]): string {
  return `${version} ${at} ${createHash('sha256').update(JSON.stringify(to)).digest('hex')}`;
}

/** Null for no record, and for one that something else has written. */
function parsed(text: string | null | undefined): Delivery | null {
  if (text == null) return null;
  const delivery: unknown = JSON.parse(text);
  return Value.Check(Delivery, delivery) ? delivery : null;
}
