import {
  closed,
  ENDED_STATUSES,
  JobEvent,
  JobEventList,
  LAST_EVENT_TYPES,
  LAST_SWEEP_EVENT_TYPES,
  SweepEvent,
  SweepEventList,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { type HttpApp, linkSignals, onceClosed } from '@lorasmith/service-kit';
import { type TSchema, Type } from 'typebox';
import { type Authenticator, watchRevocation } from '../access/authenticate.js';
import { createConcurrencyLimit } from '../access/concurrency-limit.js';
import { jobIdOf } from '../jobs/job-routes.js';
import { errorAnswers, noBody } from '../openapi/answers.js';
import { sweepIdOf } from '../sweeps/sweep-routes.js';
import { type EventSource, eventStreamOf } from './event-answer.js';

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
  path: '/jobs/:id/events' | '/sweeps/:id/events';
  operationId: string;
  /** `job`, in the texts of the documentation. */
  what: string;
  tag: string;
  event: TSchema & { $id?: string };
  list: TSchema;
  /** @throws ProductError `job_not_found`, `sweep_not_found` for an invalid id */
  source(id: string): EventSource;
}

export async function eventRoutes(
  app: HttpApp,
  { jobs, authenticator, heartbeatMs }: EventRoutesOptions,
): Promise<void> {
  const streams = createConcurrencyLimit('event streams');
  const closing = new AbortController();
  // A stream lasts as long as its job, and closing the server would wait for it.
  app.addHook('preClose', async () => closing.abort());

  const kinds: EventsOf[] = [
    {
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
    },
    {
      path: '/sweeps/:id/events',
      operationId: 'listSweepEvents',
      what: 'sweep',
      tag: 'sweeps',
      event: SweepEvent,
      list: SweepEventList,
      source(text) {
        const id = sweepIdOf(text);
        return {
          read: (options) => jobs.sweeps.readEvents(id, options),
          async hasEnded() {
            const sweep = await jobs.sweeps.get(id);
            return sweep === null || sweep.outcome !== null;
          },
          isLast: (type) => LAST_SWEEP_EVENT_TYPES.some((last) => last === type),
        };
      },
    },
  ];
  for (const { path, operationId, what, tag, event, list, source: sourceOf } of kinds) {
    app.get(
      path,
      {
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
      },
      async (request, reply) => {
        const source = sourceOf(request.params.id);
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
      },
    );
  }
}

/** The default is a stream. JSON is returned only to clients that accept JSON but no stream. */
function wantsJson(accept = ''): boolean {
  return accept.includes('application/json') && !accept.includes('text/event-stream');
}
