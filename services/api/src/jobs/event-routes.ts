import { closed, JobEvent, JobEventList } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import { type HttpApp, onceClosed } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { type Authenticator, watchRevocation } from '../access/authenticate.js';
import { createConcurrencyLimit } from '../access/concurrency-limit.js';
import { errorAnswers, noBody } from '../openapi/answers.js';
import { eventStreamOf } from './event-answer.js';
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

export async function eventRoutes(
  app: HttpApp,
  { jobs, authenticator, heartbeatMs }: EventRoutesOptions,
): Promise<void> {
  const streams = createConcurrencyLimit('event streams');
  const closing = new AbortController();
  // A stream lasts as long as its job, and closing the server would wait for it.
  app.addHook('preClose', async () => closing.abort());

  app.get(
    '/jobs/:id/events',
    {
      // A HEAD request would start a stream that nobody reads.
      exposeHeadRoute: false,
      schema: {
        operationId: 'listJobEvents',
        summary: 'Events of a job, past and future',
        description:
          'Server-sent events, up to the last one of the job. Each has an `id`, its type as `event`, and a JobEvent ' +
          'as `data`. With `Accept: application/json`: a page of the events so far.',
        tags: ['jobs'],
        params: Type.Object({ id: Type.String({ maxLength: 200 }) }, closed),
        querystring: EventsQuery,
        headers: EventsHeaders,
        response: {
          200: {
            description: 'The events, oldest first.',
            content: {
              'text/event-stream': { schema: JobEvent },
              'application/json': { schema: JobEventList },
            },
          },
          204: noBody('The job has ended, and no event follows this one.'),
          ...errorAnswers(400, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const job = jobIdOf(request.params.id);
      const { limit } = request.query;
      const after = request.headers['last-event-id'] || request.query.after;
      if (wantsJson(request.headers.accept)) return await jobs.readEvents(job, { after, limit });

      const { eventStreams: own, totalEventStreams: total } = request.limits;
      const close = streams.acquire(request.identity.key?.id ?? null, { own, total });
      const disconnected = new AbortController();
      onceClosed(reply.raw, () => {
        close();
        disconnected.abort();
      });
      const revoked = watchRevocation(authenticator, request, disconnected.signal);
      const signal = AbortSignal.any([disconnected.signal, closing.signal, revoked]);
      const stream = await eventStreamOf({ jobs, job, after, signal, heartbeatMs });
      if (stream === null) return await reply.code(204).send();
      return await reply
        .type('text/event-stream; charset=utf-8')
        .header('cache-control', 'no-store')
        .header('x-accel-buffering', 'no')
        .send(stream);
    },
  );
}

/** The default is a stream. JSON is returned only to clients that accept JSON but no stream. */
function wantsJson(accept = ''): boolean {
  return accept.includes('application/json') && !accept.includes('text/event-stream');
}
