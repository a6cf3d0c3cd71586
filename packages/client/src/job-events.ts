import { EVENT_TYPES, type JobEvent, LAST_EVENT_TYPES, ProductError } from '@lorasmith/contracts';
import { parseEventStream } from './event-stream-parser.js';
import { type HttpTransport, unreachable } from './http-transport.js';
import { bodyChunks } from './response-body.js';
import { sleep } from './sleep.js';

export interface FollowOptions {
  /** Id of an event: only what came after it. @defaultValue from the job's first event */
  after?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Pause before the first reconnection; doubled with each failure in a row, to 10 s at most. @defaultValue 500 */
  reconnectDelayMs?: number | undefined;
  /** Silence, without even a heartbeat, after which the connection counts as dead. @defaultValue 60000 */
  idleTimeoutMs?: number | undefined;
  /** Connections in a row that fail before this gives up. @defaultValue 10 */
  maxFailures?: number | undefined;
}

const MAX_DELAY_MS = 10_000;

/**
 * The events of a job, those already past and then those to come, until its last one; where the job was resumed after
 * that, on to the next last one. Goes on behind the last event
 * seen when the connection is lost.
 *
 * @throws ApiError `job_not_found` and what else the caller must mend at once; what failed last after `maxFailures`
 * connections in a row; the reason of `signal`
 */
export async function* followJobEvents(
  transport: HttpTransport,
  jobId: string,
  options: FollowOptions = {},
): AsyncGenerator<JobEvent, void, undefined> {
  const { signal, reconnectDelayMs = 500, idleTimeoutMs = 60_000, maxFailures = 10 } = options;
  const place: Place = { after: options.after, isOver: false };
  let failures = 0;
  const onAlive = () => {
    failures = 0;
  };
  for (;;) {
    signal?.throwIfAborted();
    let failure: unknown = new ProductError('service_unavailable', `The events of ${jobId} ended before its last one.`);
    try {
      yield* connect({ transport, jobId, place, idleTimeoutMs, signal, onAlive });
      if (place.isOver) return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!isPassing(error)) throw error;
      failure = error;
    }
    failures += 1;
    if (failures >= maxFailures) throw failure;
    const delayMs = Math.min(reconnectDelayMs * 2 ** (failures - 1), MAX_DELAY_MS);
    await sleep(delayMs, signal);
  }
}

/** How far the caller has come in the stream. */
interface Place {
  /** Id of the last event seen. */
  after: string | undefined;
  /** The last event seen is one after which the job has ended. */
  isOver: boolean;
}

interface Connection {
  transport: HttpTransport;
  jobId: string;
  /** Moved on with each event. */
  place: Place;
  idleTimeoutMs: number;
  signal: AbortSignal | undefined;
  /** Called for everything that arrives, heartbeats too. */
  onAlive: () => void;
}

async function* connect(options: Connection): AsyncGenerator<JobEvent, void, undefined> {
  const { transport, jobId, place, idleTimeoutMs, signal, onAlive } = options;
  const connection = new AbortController();
  const aborted = AbortSignal.any(signal === undefined ? [connection.signal] : [connection.signal, signal]);
  const onSilence = () =>
    connection.abort(new ProductError('timeout', `The events of ${jobId} were silent for ${idleTimeoutMs} ms.`));
  let idle = setTimeout(onSilence, idleTimeoutMs);
  try {
    const response = await transport.request({
      method: 'GET',
      path: `/jobs/${encodeURIComponent(jobId)}/events`,
      headers: { accept: 'text/event-stream', ...(place.after === undefined ? {} : { 'last-event-id': place.after }) },
      signal: aborted,
      timeoutMs: null,
      repeatable: false,
    });
    // The job has ended, and there is nothing after this place.
    if (response.status === 204) {
      place.isOver = true;
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
      const event = eventOf(data);
      if (event === undefined) continue;
      // After its last event a job may have been resumed; nothing else comes then.
      if (place.isOver && event.type !== 'job-resumed') return;
      place.after = event.id;
      place.isOver = LAST_EVENT_TYPES.includes(event.type);
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

/** The event, or undefined for a kind that this client is too old to know. */
function eventOf(data: string): JobEvent | undefined {
  try {
    const event = JSON.parse(data) as JobEvent;
    return EVENT_TYPES.includes(event.type) ? event : undefined;
  } catch (cause) {
    throw new ProductError('invalid_request', `The server sent an event that is not JSON: ${data.slice(0, 200)}`, {
      cause,
    });
  }
}

/** Whether a further connection may do better: the server is away or busy, not the request wrong. */
function isPassing(error: unknown): boolean {
  return error instanceof ProductError && (error.status >= 500 || error.status === 429);
}
