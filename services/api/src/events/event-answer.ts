import { Readable } from 'node:stream';
import { type Paged, ProductError } from '@lorasmith/contracts';
import type { ReadEventsOptions } from '@lorasmith/queue';

/** An event of a job or of a sweep. */
export interface AnEvent {
  id: string;
  type: string;
}

/** The job or the sweep that the events are about. */
export interface EventSource {
  read(options: ReadEventsOptions): Promise<Paged<AnEvent>>;
  hasEnded(): Promise<boolean>;
  /** Whether an event of this type can be the last. */
  isLast(type: string): boolean;
}

export interface EventAnswerOptions {
  source: EventSource;
  after: string | undefined;
  /** Ends the stream: the client disconnected, or the service shuts down. */
  signal: AbortSignal;
  /** A comment is sent after this time without an event, so that proxies and clients keep the connection open. */
  heartbeatMs: number;
}

const BATCH = 200;
/** How long a browser waits before it connects again. */
const RETRY = 'retry: 2000\n\n';
const HEARTBEAT = ': still here\n\n';

/**
 * The events of a job or a sweep as server-sent events (the HTML standard, section 9.2): past events, then new ones until the last one,
 * and further ones if the job is resumed. Reads from Redis only as fast as the client reads.
 *
 * @returns null if no event follows `after` and the job or the sweep has ended
 * @throws ProductError `job_not_found` or `sweep_not_found`, `invalid_request`, `redis_unavailable`
 */
export async function eventStreamOf(options: EventAnswerOptions): Promise<Readable | null> {
  const { source, after } = options;
  const first = await source.read({ after, limit: BATCH });
  if (first.data.length === 0 && (await source.hasEnded())) return null;
  return Readable.from(textOf(options, first.data), { objectMode: false });
}

async function* textOf(options: EventAnswerOptions, first: AnEvent[]): AsyncGenerator<string> {
  const { source, signal, heartbeatMs } = options;
  let { after } = options;
  let batch = first;
  let isLast = false;
  yield RETRY;
  try {
    for (;;) {
      for (const event of batch) {
        yield `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
        after = event.id;
        isLast = source.isLast(event.type);
      }
      if (signal.aborted) return;
      if (isLast) {
        // The job may have been resumed since.
        batch = (await source.read({ after, limit: BATCH })).data;
        if (batch.length > 0) continue;
        if (await source.hasEnded()) return;
      }
      batch = (await source.read({ after, limit: BATCH, blockMs: heartbeatMs, signal })).data;
      if (batch.length > 0) continue;
      // The number of stored events is limited, so the last one can be missing. The status always exists.
      if (signal.aborted || (await source.hasEnded())) return;
      yield HEARTBEAT;
    }
  } catch (error) {
    // Redis is unavailable, or the record was deleted. The client connects again and receives the error.
    if (!(error instanceof ProductError)) throw error;
  }
}
