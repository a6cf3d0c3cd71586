import { Readable } from 'node:stream';
import {
  ComparisonEvent,
  ComparisonEventList,
  closed,
  DeliveryEvent,
  DeliveryEventList,
  ENDED_STATUSES,
  JobEvent,
  JobEventList,
  LAST_COMPARISON_EVENT_TYPES,
  LAST_DELIVERY_EVENT_TYPES,
  LAST_EVENT_TYPES,
  LAST_SWEEP_EVENT_TYPES,
  type Paged,
  ProductError,
  SweepEvent,
  SweepEventList,
} from '@lorasmith/contracts';
import type { JobStore, ReadEventsOptions } from '@lorasmith/queue';
import { type HttpApp, linkSignals, onceClosed } from '@lorasmith/service-kit';
import { type TSchema, Type } from 'typebox';
import { type Authenticator, watchRevocation } from '../access/authenticate.js';
import { ConcurrencyLimit } from '../access/concurrency-limit.js';
import { comparisonIdOf } from '../comparisons/comparison-routes.js';
import { deliveryIdOf } from '../deliveries/delivery-routes.js';
import { errorAnswers, noBody } from '../openapi/answers.js';
import { sweepIdOf } from '../sweeps/sweep-routes.js';
import { jobIdOf } from './job-routes.js';

export interface EventRoutesOptions {
  jobs: JobStore;
  authenticator: Authenticator;
  heartbeatMs: number;
}

const EventsQuery = Type.Object(
  {
    after: Type.Optional(
      Type.String({ maxLength: 64, description: 'Id of an event; only later events are returned.' }),
    ),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'For the JSON answer only.' }),
    ),
  },
  closed,
);
const EventsHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({ maxLength: 64, description: 'Like `after`; browsers send it by themselves.' }),
  ),
});

/** A kind of things that have events. */
interface EventsOf {
  path: '/jobs/:id/events' | '/sweeps/:id/events' | '/deliveries/:id/events' | '/comparisons/:id/events';
  operationId: string;
  /** `job`, in the texts of the documentation. */
  what: string;
  tag: string;
  event: TSchema & { $id?: string };
  list: TSchema;
  /** @throws ProductError `job_not_found`, `sweep_not_found`, `delivery_not_found`, `comparison_not_found` for an invalid id */
  source(id: string): EventSource;
}

/** An event of a job, a sweep, a delivery or a comparison. */
interface AnEvent {
  id: string;
  type: string;
}

/** The job, the sweep, the delivery or the comparison that the events are about. */
interface EventSource {
  read(options: ReadEventsOptions): Promise<Paged<AnEvent>>;
  hasEnded(): Promise<boolean>;
  /** True if an event of this type can be the last. */
  isLast(type: string): boolean;
}

/** The routes of the events of jobs, sweeps, deliveries and comparisons. */
export async function eventRoutes(
  app: HttpApp,
  { jobs, authenticator, heartbeatMs }: EventRoutesOptions,
): Promise<void> {
  const streams = new ConcurrencyLimit('event streams');
  const closing = new AbortController();
  // A stream lasts as long as its job, and closing the server would wait for it.
  app.addHook('preClose', async () => closing.abort());

  const kinds = [
    jobEvents(jobs),
    sweepEvents(jobs.sweeps),
    deliveryEvents(jobs.deliveries),
    comparisonEvents(jobs.comparisons),
  ];
  for (const kind of kinds) {
    app.get(kind.path, listEvents(kind), async (request, reply) => {
      const source = kind.source(request.params.id);
      const { limit } = request.query;
      const after = request.headers['last-event-id'] || request.query.after;
      if (wantsJson(request.headers.accept)) return await source.read({ after, limit });

      const { eventStreams: own, totalEventStreams: total } = request.limits;
      const close = streams.acquire(request.identity.key?.id ?? null, { own, total });
      const disconnected = new AbortController();
      onceClosed(reply.raw, () => {
        close();
        disconnected.abort();
      });
      const revoked = watchRevocation(authenticator, request, disconnected.signal);
      const { signal } = linkSignals([disconnected.signal, closing.signal, revoked]);
      const stream = await eventStreamOf({ source, after, signal, heartbeatMs });
      if (stream === null) return await reply.code(204).send();
      return await reply
        .type('text/event-stream; charset=utf-8')
        .header('cache-control', 'no-store')
        .header('x-accel-buffering', 'no')
        .send(stream);
    });
  }
}

function listEvents({ operationId, what, tag, event, list }: EventsOf) {
  return {
    // A HEAD request would start a stream that nobody reads.
    exposeHeadRoute: false,
    schema: {
      operationId,
      summary: `Events of a ${what}, past and future`,
      description:
        `Server-sent events, up to the last one of the ${what}. Each has an \`id\`, its type as \`event\`, and a ${event.$id} ` +
        'as `data`. With `Accept: application/json`: a page of the events so far.',
      tags: [tag],
      params: Type.Object({ id: Type.String({ maxLength: 200 }) }, closed),
      querystring: EventsQuery,
      headers: EventsHeaders,
      response: {
        200: {
          description: 'The events, oldest first.',
          content: { 'text/event-stream': { schema: event }, 'application/json': { schema: list } },
        },
        204: noBody(`The ${what} has ended, and no event follows this one.`),
        ...errorAnswers(400, 404, 503),
      },
    },
  };
}

function jobEvents(jobs: JobStore): EventsOf {
  return {
    path: '/jobs/:id/events',
    operationId: 'listJobEvents',
    what: 'job',
    tag: 'jobs',
    event: JobEvent,
    list: JobEventList,
    source(text) {
      const id = jobIdOf(text);
      return {
        read: (options) => jobs.readEvents(id, options),
        async hasEnded() {
          const job = await jobs.getJob(id);
          return job === null || ENDED_STATUSES.includes(job.status);
        },
        isLast: (type) => LAST_EVENT_TYPES.some((last) => last === type),
      };
    },
  };
}

function sweepEvents(sweeps: JobStore['sweeps']): EventsOf {
  return {
    path: '/sweeps/:id/events',
    operationId: 'listSweepEvents',
    what: 'sweep',
    tag: 'sweeps',
    event: SweepEvent,
    list: SweepEventList,
    source(text) {
      const id = sweepIdOf(text);
      return {
        read: (options) => sweeps.readEvents(id, options),
        async hasEnded() {
          const sweep = await sweeps.get(id);
          return sweep === null || sweep.outcome !== null;
        },
        isLast: (type) => LAST_SWEEP_EVENT_TYPES.some((last) => last === type),
      };
    },
  };
}

function deliveryEvents(deliveries: JobStore['deliveries']): EventsOf {
  return {
    path: '/deliveries/:id/events',
    operationId: 'listDeliveryEvents',
    what: 'delivery',
    tag: 'deliveries',
    event: DeliveryEvent,
    list: DeliveryEventList,
    source(text) {
      const id = deliveryIdOf(text);
      return {
        read: (options) => deliveries.readEvents(id, options),
        hasEnded: async () => (await deliveries.get(id)).ended_at !== null,
        isLast: (type) => LAST_DELIVERY_EVENT_TYPES.some((last) => last === type),
      };
    },
  };
}

function comparisonEvents(comparisons: JobStore['comparisons']): EventsOf {
  return {
    path: '/comparisons/:id/events',
    operationId: 'listComparisonEvents',
    what: 'comparison',
    tag: 'comparisons',
    event: ComparisonEvent,
    list: ComparisonEventList,
    source(text) {
      const id = comparisonIdOf(text);
      return {
        read: (options) => comparisons.readEvents(id, options),
        hasEnded: async () => (await comparisons.get(id)).ended_at !== null,
        isLast: (type) => LAST_COMPARISON_EVENT_TYPES.some((last) => last === type),
      };
    },
  };
}

/** The default is a stream. JSON is returned only to clients that accept JSON but no stream. */
function wantsJson(accept = ''): boolean {
  return accept.includes('application/json') && !accept.includes('text/event-stream');
}

interface EventStreamOptions {
  source: EventSource;
  after: string | undefined;
  /** Ends the stream: the client disconnected, or the service shuts down. */
  signal: AbortSignal;
  /** A comment is sent after this time without an event, so that proxies and clients keep the connection open. */
  heartbeatMs: number;
}

const BATCH = 200;
/** The wait of a browser before it connects again. */
const RETRY = 'retry: 2000\n\n';
const HEARTBEAT = ': still here\n\n';

/**
 * The events of a job, a sweep, a delivery or a comparison as server-sent events (the HTML standard, section 9.2): past events, then new ones until the last one,
 * and further ones if the job is resumed. Reads from Redis only as fast as the client reads.
 *
 * @returns null if no event follows `after` and the job, the sweep, the delivery or the comparison has ended
 * @throws ProductError `job_not_found`, `sweep_not_found`, `delivery_not_found` or `comparison_not_found`, `invalid_request`, `redis_unavailable`
 */
async function eventStreamOf(options: EventStreamOptions): Promise<Readable | null> {
  const { source, after } = options;
  const first = await source.read({ after, limit: BATCH });
  if (first.data.length === 0 && (await source.hasEnded())) return null;
  return Readable.from(textOf(options, first.data), { objectMode: false });
}

async function* textOf(options: EventStreamOptions, first: AnEvent[]): AsyncGenerator<string> {
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
