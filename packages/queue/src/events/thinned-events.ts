import { randomUUID } from 'node:crypto';
import { ENDED_STATUSES, type EventType, type JobId } from '@lorasmith/contracts';
import { queueTime, type StoreDeps } from '../keys.js';
import { luaScript } from '../redis/lua-script.js';
import { repliesOf } from '../redis/redis-errors.js';

/** The most events of each of these types that are kept of an ended job, besides the first and the last of each attempt. */
const KEPT: Partial<Record<EventType, number>> = {
  'step-finished': 300,
  'answers-graded': 100,
  'tokenizing-progressed': 20,
  'reference-progressed': 20,
};
/** Time for readers that follow the job, or connect again, to receive every event. */
const AFTER_MS = 600_000;
/** Limits, for docs/limits.md. */
export const thinningLimits = {
  steps: { value: KEPT['step-finished']!, unit: 'steps', beyond: 'evenly thinned, ten minutes after the end' },
  rounds: { value: KEPT['answers-graded']!, unit: 'steps', beyond: 'evenly thinned, ten minutes after the end' },
};
/** Jobs with fewer events are left as they are. */
export const MIN_EVENTS = KEPT['step-finished']!;

/** Events read or written at once. */
const BATCH = 1_000;
/** Jobs looked at in one call. */
const JOBS_AT_ONCE = 1_000;
/** A copy that its process did not finish is removed after this time. */
const COPY_SECONDS = 600;

/** An event as a stream has it: its id, and its fields and values. */
type Entry = [id: string, fields: string[]];

const replaceScript = luaScript(import.meta.url, './replace-events.lua', 'replace_events');

/**
 * Thins the events of jobs that ended a while ago: of steps, and of progress, it keeps some hundred, evenly spread, with the first and the last of
 * each attempt, and every event of another type. Redis gives memory back only for a new stream, so the kept events are copied with their ids, and
 * the copy replaces the stream at once. If the process dies before, the next call repeats it.
 *
 * @param signal - Ends it early.
 * @returns how many jobs it has thinned
 */
export async function thinEvents(deps: StoreDeps, signal?: AbortSignal): Promise<number> {
  const { redis, keys } = deps;
  const due = (await queueTime(deps)) - AFTER_MS;
  let thinned = 0;
  for (const id of await redis.zrangebyscore(keys.eventsToThin, '-inf', due, 'LIMIT', 0, JOBS_AT_ONCE)) {
    if (signal?.aborted) break;
    if (await thinEventsOf(deps, id)) thinned++;
  }
  return thinned;
}

async function thinEventsOf({ redis, keys }: StoreDeps, id: JobId): Promise<boolean> {
  const events = keys.events(id);
  const entries: Entry[] = [];
  for (;;) {
    const after = entries.at(-1)?.[0];
    const page = await redis.xrange(events, after === undefined ? '-' : `(${after}`, '+', 'COUNT', BATCH);
    entries.push(...page);
    if (page.length < BATCH) break;
  }
  const kept = keptEvents(entries);
  // Another process may do the same.
  const copy = `${events}:${randomUUID()}`;
  for (let from = 0; from < kept.length; from += BATCH) {
    const write = redis.multi();
    for (const [eventId, fields] of kept.slice(from, from + BATCH)) write.xadd(copy, eventId, ...fields);
    repliesOf(await write.expire(copy, COPY_SECONDS).exec());
  }
  const replaced = await replaceScript(
    redis,
    { record: keys.job(id), events, copy, events_to_thin: keys.eventsToThin },
    { id, last_event: entries.at(-1)?.[0] ?? '', ended_statuses: ENDED_STATUSES.join() },
  );
  return replaced === 1;
}

/** The events that are kept, in their order. */
export function keptEvents(entries: readonly Entry[]): Entry[] {
  const kept = new Set<Entry>();
  for (const [type, most] of Object.entries(KEPT)) {
    const ofType = entries.filter((entry) => typeOf(entry) === type);
    const spacing = Math.max(1, (ofType.length - 1) / (most - 1));
    for (let at = 0; Math.round(at) < ofType.length; at += spacing) kept.add(ofType[Math.round(at)]!);
  }
  // Steps that an attempt trains again replace those of the attempt before from its first one on.
  let lastOfTypes = new Map<string, Entry>();
  const endAttempt = () => {
    for (const entry of lastOfTypes.values()) kept.add(entry);
    lastOfTypes = new Map();
  };
  for (const entry of entries) {
    const type = typeOf(entry);
    if (type === 'job-started') endAttempt();
    if (!(type in KEPT)) {
      kept.add(entry);
      continue;
    }
    if (!lastOfTypes.has(type)) kept.add(entry);
    lastOfTypes.set(type, entry);
  }
  endAttempt();
  return entries.filter((entry) => kept.has(entry));
}

function typeOf([, fields]: Entry): string {
  return fields[1]!;
}
