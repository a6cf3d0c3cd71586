import {
  COMPARISON_EVENT_TYPES,
  type ComparisonEvent,
  DELIVERY_EVENT_TYPES,
  type DeliveryEvent,
  EVENT_TYPES,
  type JobEvent,
  LAST_COMPARISON_EVENT_TYPES,
  LAST_DELIVERY_EVENT_TYPES,
  LAST_EVENT_TYPES,
  LAST_SWEEP_EVENT_TYPES,
  ProductError,
  SWEEP_EVENT_TYPES,
  type SweepEvent,
} from '@lorasmith/contracts';
import { parseEventStream } from './event-stream-parser.js';
import { bodyChunks, type HttpTransport, sleep, unreachable } from './http-transport.js';

export interface FollowOptions {
  /** Id of an event: only later events are returned. @defaultValue all events */
  after?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Delay before the first reconnection. It doubles with each consecutive failure, up to 10 s. @defaultValue 500 */
  reconnectDelayMs?: number | undefined;
  /** Time without data or heartbeat after which the connection counts as lost. @defaultValue 60000 */
  idleTimeoutMs?: number | undefined;
  /** Maximum number of consecutive failed connections. @defaultValue 10 */
  maxFailures?: number | undefined;
}

const MAX_DELAY_MS = 10_000;

/** A kind of things that have events. */
interface Kind {
  path: '/jobs' | '/sweeps' | '/deliveries' | '/comparisons';
  /** The types of events that this version of the client knows. */
  types: readonly string[];
  lastTypes: readonly string[];
  /** The type of the only event that can follow the last one. */
  afterLast: string | null;
}

const JOBS: Kind = { path: '/jobs', types: EVENT_TYPES, lastTypes: LAST_EVENT_TYPES, afterLast: 'job-resumed' };
const SWEEPS: Kind = {
  path: '/sweeps',
  types: SWEEP_EVENT_TYPES,
  lastTypes: LAST_SWEEP_EVENT_TYPES,
  afterLast: null,
};
const DELIVERIES: Kind = {
  path: '/deliveries',
  types: DELIVERY_EVENT_TYPES,
  lastTypes: LAST_DELIVERY_EVENT_TYPES,
  afterLast: null,
};
const COMPARISONS: Kind = {
  path: '/comparisons',
  types: COMPARISON_EVENT_TYPES,
  lastTypes: LAST_COMPARISON_EVENT_TYPES,
  afterLast: null,
};

/**
 * Past and future events of a job, up to its last one. If the job was resumed after that, continues to the next last
 * one. When the connection is lost, continues after the last event received.
 *
 * @throws ApiError `job_not_found` and other errors that a retry cannot fix, at once; the last error after `maxFailures`
 * consecutive failures; the reason of `signal`
 */
export function followJobEvents(
  transport: HttpTransport,
  id: string,
  options: FollowOptions = {},
): AsyncGenerator<JobEvent, void, undefined> {
  return followEvents<JobEvent>(transport, { kind: JOBS, id }, options);
}

/** Past and future events of a sweep, up to its last one, as {@link followJobEvents}. @throws ApiError `sweep_not_found` and the same */
export function followSweepEvents(
  transport: HttpTransport,
  id: string,
  options: FollowOptions = {},
): AsyncGenerator<SweepEvent, void, undefined> {
  return followEvents<SweepEvent>(transport, { kind: SWEEPS, id }, options);
}

/** Past and future events of a delivery, up to its last one, as {@link followJobEvents}. @throws ApiError `delivery_not_found` and the same */
export function followDeliveryEvents(
  transport: HttpTransport,
  id: string,
  options: FollowOptions = {},
): AsyncGenerator<DeliveryEvent, void, undefined> {
  return followEvents<DeliveryEvent>(transport, { kind: DELIVERIES, id }, options);
}

/** Past and future events of a comparison, up to its last one, as {@link followJobEvents}. @throws ApiError `comparison_not_found` and the same */
export function followComparisonEvents(
  transport: HttpTransport,
  id: string,
  options: FollowOptions = {},
): AsyncGenerator<ComparisonEvent, void, undefined> {
  return followEvents<ComparisonEvent>(transport, { kind: COMPARISONS, id }, options);
}

async function* followEvents<Event extends AnEvent>(
  transport: HttpTransport,
  of: { kind: Kind; id: string },
  options: FollowOptions,
): AsyncGenerator<Event, void, undefined> {
  const { signal, reconnectDelayMs = 500, idleTimeoutMs = 60_000, maxFailures = 10 } = options;
  const position: Position = { after: options.after, isOver: false };
  let failures = 0;
  const onAlive = () => {
    failures = 0;
  };
  for (;;) {
    signal?.throwIfAborted();
    let failure: unknown = new ProductError('service_unavailable', `The events of ${of.id} ended before its last one.`);
    try {
      yield* connect<Event>({ transport, ...of, position, idleTimeoutMs, signal, onAlive });
      if (position.isOver) return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!isTemporary(error)) throw error;
      failure = error;
    }
    failures += 1;
    if (failures >= maxFailures) throw failure;
    const delayMs = Math.min(reconnectDelayMs * 2 ** (failures - 1), MAX_DELAY_MS);
    await sleep(delayMs, signal);
  }
}

interface AnEvent {
  id: string;
  type: string;
}

/** The caller's position in the stream. */
interface Position {
  /** Id of the last event received. */
  after: string | undefined;
  /** True if that event was a last one. */
  isOver: boolean;
}

interface Connection {
  transport: HttpTransport;
  kind: Kind;
  id: string;
  /** Updated with each event. */
  position: Position;
  idleTimeoutMs: number;
  signal: AbortSignal | undefined;
  /** Called for all received data, including heartbeats. */
  onAlive: () => void;
}

async function* connect<Event extends AnEvent>(options: Connection): AsyncGenerator<Event, void, undefined> {
  const { transport, kind, id, position, idleTimeoutMs, signal, onAlive } = options;
  const connection = new AbortController();
  const aborted = AbortSignal.any(signal === undefined ? [connection.signal] : [connection.signal, signal]);
  const onSilence = () =>
    connection.abort(new ProductError('timeout', `The events of ${id} were silent for ${idleTimeoutMs} ms.`));
  let idle = setTimeout(onSilence, idleTimeoutMs);
  try {
    const response = await transport.request({
      method: 'GET',
      path: `${kind.path}/${encodeURIComponent(id)}/events`,
      headers: {
        accept: 'text/event-stream',
        ...(position.after === undefined ? {} : { 'last-event-id': position.after }),
      },
      signal: aborted,
      timeoutMs: null,
      repeatable: false,
    });
    // It has ended, and there are no events after this position.
    if (response.status === 204) {
      position.isOver = true;
      return;
    }
    const contentType = response.headers.get('content-type') ?? 'nothing';
    if (!contentType.startsWith('text/event-stream')) {
      throw new ProductError(
        'invalid_request',
        `${response.url} answered with ${contentType}, not with events; is it the right address?`,
      );
    }
    const chunks = watched(bodyChunks(response, aborted), () => {
      clearTimeout(idle);
      idle = setTimeout(onSilence, idleTimeoutMs);
      onAlive();
    });
    for await (const { data } of parseEventStream(chunks)) {
      const event = eventOf<Event>(data, kind);
      if (event === undefined) continue;
      if (position.isOver && event.type !== kind.afterLast) return;
      position.after = event.id;
      position.isOver = kind.lastTypes.includes(event.type);
      yield event;
    }
  } catch (error) {
    aborted.throwIfAborted();
    throw unreachable(transport.origin, error);
  } finally {
    clearTimeout(idle);
    connection.abort();
  }
}

async function* watched(chunks: AsyncIterable<Uint8Array>, onChunk: () => void): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    onChunk();
    yield chunk;
  }
}

/** The event, or undefined for a type that this version of the client does not know. */
function eventOf<Event extends AnEvent>(data: string, { types }: Kind): Event | undefined {
  try {
    const event = JSON.parse(data) as Event;
    return types.includes(event.type) ? event : undefined;
  } catch (cause) {
    throw new ProductError('invalid_request', `The server sent an event that is not JSON: ${data.slice(0, 200)}`, {
      cause,
    });
  }
}

/** True if a retry may succeed: the server is unavailable or busy, and the request is not at fault. */
function isTemporary(error: unknown): boolean {
  return error instanceof ProductError && (error.status >= 500 || error.status === 429);
}
