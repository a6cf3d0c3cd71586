import {
  Comparison,
  type ComparisonEvent,
  type ComparisonId,
  ComparisonRow,
  type KeyId,
  type NewComparisonEvent,
  newIdentifier,
  type Owner,
  type Paged,
  ProductError,
  type WebhookType,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { EventStream, MAX_EVENTS, type ReadEventsOptions } from '../events/event-stream.js';
import type { JobKeys, StoreDeps } from '../keys.js';
import type { EventNotices } from '../redis/event-notices.js';
import { beginningOf, newest, pageOf } from '../redis/index-pages.js';
import { luaScript } from '../redis/lua-script.js';

/** Comparisons of a key, and of all, whose records and rows are kept. */
const KEPT_OF_KEY = 100;
const KEPT = 1_000;
/** Unfinished comparisons of a key, and of all. */
const OPEN_OF_KEY = 10;
const OPEN = 100;
/** Limits, for docs/limits.md. */
export const comparisonStoreLimits = {
  keptOfKey: { value: KEPT_OF_KEY, unit: 'comparisons', beyond: 'the oldest ended ones are removed' },
  kept: { value: KEPT, unit: 'comparisons', beyond: 'the oldest ended ones are removed' },
  openOfKey: { value: OPEN_OF_KEY, unit: 'comparisons', beyond: '429 `quota_exceeded`' },
  open: { value: OPEN, unit: 'comparisons', beyond: '429 `queue_full`' },
};
/** A process that has not renewed its lease for this long has died, and another resumes its comparison. */
export const COMPARISON_LEASE_MS = 30_000;

const script = (name: string) => luaScript(import.meta.url, './comparisons.lua', name);
const createScript = script('create_comparison');
const claimScript = script('claim_comparison');
const leaseScript = script('lease_comparison');
const writeScript = script('write_comparison');
const giveBackScript = script('give_back_comparison');
const endScript = script('end_comparison');
const askToCancelScript = script('ask_comparison_to_cancel');
const deleteScript = script('delete_comparison');

/** A comparison without what the store decides. */
export type NewComparison = Omit<
  Comparison,
  'id' | 'object' | 'status' | 'progress' | 'result' | 'error' | 'created_at' | 'started_at' | 'ended_at'
>;

/** A comparison that a process has leased. */
export interface ClaimedComparison {
  comparison: Comparison;
  /** Names the lease. */
  token: string;
  /** The number of times that it was taken, since a row was last written. */
  attempts: number;
}

/** The parts that are written together, under a lease. */
export interface ComparisonWrite {
  comparison?: Comparison;
  row?: ComparisonRow;
  event?: NewComparisonEvent;
}

export interface ListComparisonsOptions {
  /** Only those of this key. */
  owner?: KeyId | undefined;
  after?: ComparisonId | undefined;
  /** @defaultValue 20 */
  limit?: number | undefined;
}

/** Comparisons of two models, in Redis: their records, their rows, and who works on them. */
export class ComparisonStore {
  readonly #redis: Redis;
  readonly #keys: JobKeys;
  readonly #events: EventStream<ComparisonEvent>;

  constructor({ redis, keys, notices }: StoreDeps & { notices: EventNotices }) {
    this.#redis = redis;
    this.#keys = keys;
    this.#events = new EventStream<ComparisonEvent>({
      redis,
      notices,
      record: keys.comparison,
      events: keys.comparisonEvents,
      eventOf: (comparison, { id, ...event }) => ({ id, comparison, ...event }) as ComparisonEvent,
      missing: comparisonNotFound,
    });
  }

  /** Queues a comparison. @throws ProductError `quota_exceeded` for an owner with too many unfinished ones, `queue_full` */
  async create(given: NewComparison): Promise<Comparison> {
    const comparison: Comparison = {
      ...given,
      id: newIdentifier('cmp'),
      object: 'comparison',
      status: 'queued',
      progress: null,
      result: null,
      error: null,
      created_at: new Date().toISOString(),
      started_at: null,
      ended_at: null,
    };
    const { id, owner } = comparison;
    const outcome = await createScript(this.#redis, this.#keysOf(id, owner), {
      ...this.#reportArgs(id),
      record: JSON.stringify(comparison),
      owner: owner ?? '',
      max_open: OPEN,
      max_open_of_owner: owner === null ? '' : OPEN_OF_KEY,
    });
    if (outcome !== 'created') throw tooMany(outcome === 'full');
    await this.#removeOldest(this.#keys.comparisonsOf(owner), KEPT_OF_KEY);
    await this.#removeOldest(this.#keys.comparisons, KEPT);
    return comparison;
  }

  /** @throws ProductError `comparison_not_found` */
  async get(id: ComparisonId): Promise<Comparison> {
    const comparison = parsed(Comparison, await this.#redis.hget(this.#keys.comparison(id), 'record'));
    if (comparison === null) throw comparisonNotFound(id);
    return comparison;
  }

  /** Undefined if it does not exist. */
  async ownerOf(id: ComparisonId): Promise<Owner | undefined> {
    const owner = await this.#redis.hget(this.#keys.comparison(id), 'owner');
    if (owner === null) return undefined;
    return owner === '' ? null : owner;
  }

  /** Newest first. @throws ProductError `invalid_request` if there is no comparison `after` */
  async list({ owner, after, limit = 20 }: ListComparisonsOptions = {}): Promise<Paged<Comparison>> {
    const index = owner === undefined ? this.#keys.comparisons : this.#keys.comparisonsOf(owner);
    const before = await beginningOf(this.#redis, index, { kind: 'comparison', after });
    const ids = await newest(this.#redis, index, before, limit + 1);
    const read = (_: string, { record }: Record<string, string>) => parsed(Comparison, record);
    return await pageOf(this.#redis, ids, { limit, key: this.#keys.comparison, read });
  }

  /** The rows with these numbers that have been begun. */
  async rows(id: ComparisonId, numbers: readonly number[]): Promise<ComparisonRow[]> {
    if (numbers.length === 0) return [];
    const texts = await this.#redis.hmget(this.#keys.comparisonRows(id), ...numbers.map(String));
    return texts.flatMap((text) => parsed(ComparisonRow, text) ?? []);
  }

  /** Oldest first. @throws ProductError `comparison_not_found`, `invalid_request` */
  async readEvents(id: ComparisonId, options?: ReadEventsOptions): Promise<Paged<ComparisonEvent>> {
    return await this.#events.read(id, options);
  }

  /** Ends a comparison that nobody works on, and asks the process that works on any other to stop. @throws ProductError `comparison_not_found` */
  async cancel(id: ComparisonId): Promise<Comparison> {
    for (;;) {
      const text = await this.#redis.hget(this.#keys.comparison(id), 'record');
      const comparison = parsed(Comparison, text);
      if (text === null || comparison === null) throw comparisonNotFound(id);
      if (comparison.ended_at !== null) return comparison;
      if ((await askToCancelScript(this.#redis, this.#keysOf(id, null), { id })) === 1) return comparison;
      const cancelled = ended({ ...comparison, status: 'cancelled' });
      if ((await this.#end(cancelled, { token: '', expected: text })) === 'done') return cancelled;
    }
  }

  /** @throws ProductError `comparison_not_found`, `comparison_still_active` */
  async remove(id: ComparisonId): Promise<void> {
    const answer = await this.#delete(id);
    if (answer === 'missing') throw comparisonNotFound(id);
    if (answer === 'active') {
      throw new ProductError('comparison_still_active', 'The comparison has not ended. Cancel it first.');
    }
  }

  /** The number of unfinished comparisons, for monitoring. */
  async count(): Promise<number> {
    return await this.#redis.zcard(this.#keys.comparisonsDue);
  }

  /** Takes the next comparison that is due; null: none is. */
  async claim(): Promise<ClaimedComparison | null> {
    const due = { due: this.#keys.comparisonsDue };
    const id = (await claimScript(this.#redis, due, { lease_ms: COMPARISON_LEASE_MS })) as ComparisonId | null;
    if (id === null) return null;
    const token = newIdentifier('req');
    const leased = await leaseScript(this.#redis, this.#keysOf(id, null), { id, token });
    if (leased === null) return null;
    const [text, attempts] = leased as [string, number];
    const comparison = parsed(Comparison, text);
    if (comparison === null) throw new ProductError('internal_error', `The record of ${id} is damaged.`);
    return { comparison, token, attempts };
  }

  /** Renews the lease, and writes what is given. */
  async write(
    id: ComparisonId,
    token: string,
    { comparison, row, event }: ComparisonWrite = {},
  ): Promise<'done' | 'cancel' | 'lost'> {
    const outcome = await writeScript(this.#redis, this.#keysOf(id, null), {
      ...this.#reportArgs(id),
      token,
      lease_ms: COMPARISON_LEASE_MS,
      record: comparison === undefined ? '' : JSON.stringify(comparison),
      row_number: row?.number ?? '',
      row: row === undefined ? '' : JSON.stringify(row),
      event_type: event?.type ?? '',
      event_data: event === undefined ? '' : JSON.stringify(event.data),
    });
    return outcome as 'done' | 'cancel' | 'lost';
  }

  /** Gives a comparison back, to be taken by another process. */
  async giveBack(id: ComparisonId, token: string): Promise<void> {
    await giveBackScript(this.#redis, this.#keysOf(id, null), { id, token });
  }

  /** Ends a comparison, and reports that. @param end - With its last state */
  async end(end: Comparison, token: string): Promise<'done' | 'lost' | 'changed'> {
    return await this.#end(ended(end), { token, expected: '' });
  }

  async #end(comparison: Comparison, { token, expected }: { token: string; expected: string }) {
    const { id, status } = comparison;
    const { type, data } = endEvent(comparison);
    const outcome = await endScript(this.#redis, this.#keysOf(id, null), {
      ...this.#reportArgs(id),
      token,
      record: JSON.stringify(comparison),
      expected,
      event_type: type,
      event_data: JSON.stringify(data),
      webhook_type: `comparison.${status}` as WebhookType,
    });
    return outcome as 'done' | 'lost' | 'changed';
  }

  async #delete(id: ComparisonId): Promise<unknown> {
    const owner = (await this.ownerOf(id)) ?? null;
    return await deleteScript(this.#redis, this.#keysOf(id, owner), { id });
  }

  /** A failure does not affect the new comparison; the next one removes the old ones. */
  async #removeOldest(index: string, kept: number): Promise<void> {
    const old = this.#redis.zrange(index, '0', String(-kept - 1));
    await old.then((ids) => Promise.allSettled(ids.map((id) => this.#delete(id)))).catch(() => {});
  }

  #keysOf(id: ComparisonId, owner: Owner) {
    const keys = this.#keys;
    return {
      comparison: keys.comparison(id),
      rows: keys.comparisonRows(id),
      events: keys.comparisonEvents(id),
      all: keys.comparisons,
      of_owner: keys.comparisonsOf(owner),
      due: keys.comparisonsDue,
      sequence_counter: keys.sequence,
      webhooks_due: keys.webhooksDue,
      webhook_messages: keys.webhookMessages,
      webhook_for_all: keys.webhookForAll,
    };
  }

  #reportArgs(id: ComparisonId) {
    return { id, event_channel: this.#keys.eventChannel, max_events: MAX_EVENTS };
  }
}

/** The error for a comparison that does not exist, or that the caller may not use. */
export function comparisonNotFound(id: string): ProductError {
  return new ProductError('comparison_not_found', `There is no comparison ${JSON.stringify(id.slice(0, 100))}.`);
}

function tooMany(ofAll: boolean): ProductError {
  const [most, code] = ofAll ? ([OPEN, 'queue_full'] as const) : ([OPEN_OF_KEY, 'quota_exceeded'] as const);
  const whose = ofAll ? '' : ' of this key';
  const message = `${most} comparisons${whose} are unfinished. Wait for some, or cancel them.`;
  return new ProductError(code, message, { retryAfterSeconds: 60 });
}

function ended(comparison: Comparison): Comparison {
  return { ...comparison, ended_at: new Date().toISOString() };
}

/** The last event. */
function endEvent({ id, status, result, error }: Comparison): NewComparisonEvent {
  if (status === 'succeeded' && result !== null) return { type: 'comparison-succeeded', data: { result } };
  if (status === 'failed' && error !== null) return { type: 'comparison-failed', data: { error } };
  if (status === 'cancelled') return { type: 'comparison-cancelled', data: {} };
  throw new Error(`${id} cannot end as ${status}.`);
}

/** Null for no record, and for one that something else has written. */
function parsed<Schema extends TSchema>(schema: Schema, text: string | null | undefined): Static<Schema> | null {
  if (text == null) return null;
  const value: unknown = JSON.parse(text);
  return Value.Check(schema, value) ? (value as Static<Schema>) : null;
}
