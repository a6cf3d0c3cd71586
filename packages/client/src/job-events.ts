import { EVENT_TYPES, type JobEvent, LAST_EVENT_TYPES, ProductError } from '@lorasmith/contracts';
import { parseEventStream } from './event-stream-parser.js';
import { type HttpTransport, unreachable } from './http-transport.js';
import { bodyChunks } from './response-body.js';
import { sleep } from './sleep.js';

export interface FollowOptions {
  /** Id of an event: only later events are returned. @defaultValue all events of the job */
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

/**
 * Past and future events of a job, up to its last one. If the job was resumed after that, continues to the next last
 * one. When the connection is lost, continues after the last event received.
 *
 * @throws ApiError `job_not_found` and other errors that a retry cannot fix, at once; the last error after `maxFailures`
 * consecutive failures; the reason of `signal`
 */
export async function* followJobEvents(
  transport: HttpTransport,
  jobId: string,
  options: FollowOptions = {},
): AsyncGenerator<JobEvent, void, undefined> {
  const { signal, reconnectDelayMs = 500, idleTimeoutMs = 60_000, maxFailures = 10 } = options;
  const position: Position = { after: options.after, isOver: false };
  let failures = 0;
  const onAlive = () => {
    failures = 0;
  };
  for (;;) {
    signal?.throwIfAborted();
    let failure: unknown = new ProductError('service_unavailable', `The events of ${jobId} ended before its last one.`);
    try {
      yield* connect({ transport, jobId, position, idleTimeoutMs, signal, onAlive });
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

/** The caller's position in the stream. */
interface Position {
  /** Id of the last event received. */
  after: string | undefined;
  /** Whether the job had ended with that event. */
  isOver: boolean;
}

interface Connection {
  transport: HttpTransport;
  jobId: string;
  /** Updated with each event. */
  position: Position;
  idleTimeoutMs: number;
  signal: AbortSignal | undefined;
  /** Called for all received data, including heartbeats. */
  onAlive: () => void;
}

async function* connect(options: Connection): AsyncGenerator<JobEvent, void, undefined> {
  const { transport, jobId, position, idleTimeoutMs, signal, onAlive } = options;
  const connection = new AbortController();
  const aborted = AbortSignal.any(signal === undefined ? [connection.signal] : [connection.signal, signal]);
  const onSilence = () =>
    connection.abort(new ProductError('timeout', `The events of ${jobId} were silent for ${idleTimeoutMs} ms.`));
  let idle = setTimeout(onSilence, idleTimeoutMs);
  try {
    const response = await transport.request({
      method: 'GET',
      path: `/jobs/${encodeURIComponent(jobId)}/events`,
      headers: {
        accept: 'text/event-stream',
        ...(position.after === undefined ? {} : { 'last-event-id': position.after }),
      },
      signal: aborted,
      timeoutMs: null,
      repeatable: false,
    });
    // The job has ended, and there are no events after this position.
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
      const event = eventOf(data);
      if (event === undefined) continue;
      // Only a resumed job has events after its last one.
      if (position.isOver && event.type !== 'job-resumed') return;
      position.after = event.id;
      position.isOver = LAST_EVENT_TYPES.includes(event.type);
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

/** Whether a retry may succeed: the server is unavailable or busy, and the request is not at fault. */
function isTemporary(error: unknown): boolean {
  return error instanceof ProductError && (error.status >= 500 || error.status === 429);
}
