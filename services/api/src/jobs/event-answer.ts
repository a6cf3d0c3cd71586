import { Readable } from 'node:stream';
import { ENDED_STATUSES, type JobEvent, type JobId, LAST_EVENT_TYPES, ProductError } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';

export interface EventAnswerOptions {
  jobs: Pick<JobStore, 'readEvents' | 'getJob'>;
  job: JobId;
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
 * The events of a job as server-sent events (the HTML standard, section 9.2): past events, then new ones until the last event
 * of the job, and further ones if the job is resumed. Reads from Redis only as fast as the client reads.
 *
 * @returns null if no event follows `after` and the job has ended
 * @throws ProductError `job_not_found`, `invalid_request`, `redis_unavailable`
 */
export async function eventStreamOf(options: EventAnswerOptions): Promise<Readable | null> {
  const { jobs, job, after } = options;
  const first = await jobs.readEvents(job, { after, limit: BATCH });
  if (first.data.length === 0 && (await hasEnded(options))) return null;
  return Readable.from(textOf(options, first.data), { objectMode: false });
}

async function* textOf(options: EventAnswerOptions, first: JobEvent[]): AsyncGenerator<string> {
  const { jobs, job, signal, heartbeatMs } = options;
  let { after } = options;
  let batch = first;
  let isLast = false;
  yield RETRY;
  try {
    for (;;) {
      for (const event of batch) {
        yield `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
        after = event.id;
        isLast = LAST_EVENT_TYPES.includes(event.type);
      }
      if (signal.aborted) return;
      if (isLast) {
        // The job may have been resumed since.
        batch = (await jobs.readEvents(job, { after, limit: BATCH })).data;
        if (batch.length > 0) continue;
        if (await hasEnded(options)) return;
      }
      batch = (await jobs.readEvents(job, { after, limit: BATCH, blockMs: heartbeatMs, signal })).data;
      if (batch.length > 0) continue;
      // The number of stored events is limited, so the last one can be missing. The status always exists.
      if (signal.aborted || (await hasEnded(options))) return;
      yield HEARTBEAT;
    }
  } catch (error) {
    // Redis is unavailable, or the job was deleted. The client connects again and receives the error.
    if (!(error instanceof ProductError)) throw error;
  }
}

async function hasEnded({ jobs, job }: EventAnswerOptions): Promise<boolean> {
  const current = await jobs.getJob(job);
  return current === null || ENDED_STATUSES.includes(current.status);
}
