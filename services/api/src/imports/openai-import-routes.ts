import { Readable } from 'node:stream';
import { addressOf, endOf, OpenaiImport, OpenaiWire, type PlannedImport } from '@lorasmith/client/openai-import';
import { inTime } from '@lorasmith/concurrency';
import {
  OPENAI_BASE_URL,
  OpenaiImportEvent,
  OpenaiImportRequest,
  ProductError,
  publicText,
} from '@lorasmith/contracts';
import { type HttpApp, linkSignals, logError, onceClosed, productErrorOf } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import { type Authenticator, watchRevocation } from '../access/authenticate.js';
import type { ConcurrencyLimit } from '../access/concurrency-limit.js';
import { errorAnswers } from '../openapi/answers.js';
import { ownClient } from './own-client.js';

export interface OpenaiImportRoutesOptions {
  authenticator: Authenticator;
  /** The limit of downloads and imports. */
  transfers: ConcurrencyLimit;
  /** The addresses that may be named. */
  allowedUrls: readonly string[];
  heartbeatMs: number;
}

const importFromOpenai = {
  schema: {
    operationId: 'importFromOpenai',
    summary: 'Move fine-tuning jobs and their files in from OpenAI, or from a service with its wire',
    description:
      'Server-sent events: first the plan of each job, then what is stored and posted, last `import-ended` or `import-failed`. The key is ' +
      'used for this call alone. A client that leaves ends the import; the same call again continues it, and does nothing twice.',
    tags: ['jobs'],
    body: OpenaiImportRequest,
    response: {
      200: { description: 'The events.', content: { 'text/event-stream': { schema: OpenaiImportEvent } } },
      ...errorAnswers(400, 404, 422, 503, 504),
    },
  },
};

/** The import of jobs from OpenAI. It keeps no record: everything is in the jobs and datasets that it makes. */
export async function openaiImportRoutes(app: HttpApp, options: OpenaiImportRoutesOptions): Promise<void> {
  const { transfers, authenticator, heartbeatMs } = options;
  const closing = new AbortController();
  app.addHook('preClose', async () => closing.abort(new ProductError('service_unavailable', STOPPING)));
  parseWithoutQuoting(app);

  app.post('/imports/openai', importFromOpenai, async (request, reply) => {
    const { transfers: own, totalTransfers: total } = request.limits;
    const left = new AbortController();
    onceClosed(reply.raw, () => left.abort(new ProductError('cancelled', 'The caller has left.')));
    onceClosed(reply.raw, transfers.acquire(request.identity.key?.id ?? null, { own, total }));
    const revoked = watchRevocation(authenticator, request, left.signal);
    const { signal } = linkSignals([left.signal, revoked, closing.signal]);
    const events = eventsOf(request, { ...options, signal });
    // What fails before the first event is an error with its status.
    const first = await events.next();
    const text = textOf(first, events, { request, heartbeatMs, revoked });
    return await reply
      .type('text/event-stream; charset=utf-8')
      .header('cache-control', 'no-store')
      .header('x-accel-buffering', 'no')
      .send(Readable.from(text, { objectMode: false }));
  });
}

const STOPPING = 'The service is stopping. Import again: it continues.';

/** Refuses a body that is not JSON without a part of it in the message, which could be the key. */
function parseWithoutQuoting(app: HttpApp): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, null);
    else
      void parse(request, String(body), (error, value) => {
        if (error === null) done(null, value);
        else done(new ProductError('invalid_json', 'The body is not JSON.'), undefined);
      });
  });
}

type Events = AsyncGenerator<OpenaiImportEvent, void, undefined>;

async function* eventsOf(
  request: FastifyRequest,
  { allowedUrls, signal }: Pick<OpenaiImportRoutesOptions, 'allowedUrls'> & { signal: AbortSignal },
): Events {
  const body = request.body as OpenaiImportRequest;
  const { api_key: apiKey, base_url: baseUrl = OPENAI_BASE_URL, record_answers: recordAnswers } = body;
  checkAllowed(baseUrl, allowedUrls);
  const work = new OpenaiImport({
    source: new OpenaiWire({ baseUrl, apiKey: apiKey ?? undefined }),
    client: ownClient(request),
    baseModel: body.base_model,
    jobs: body.jobs,
    recordAnswers,
    signal,
  });
  const plans: PlannedImport[] = [];
  for await (const plan of work.plan()) {
    plans.push(plan);
    yield { type: 'job-planned', job: plan.job };
  }
  if (body.dry_run !== true) yield* work.post(plans);
  else
    yield endOf(
      plans.map(({ job }) => job),
      true,
    );
}

/** @throws ProductError `forbidden` for an address that the operator does not allow: it could be one of this network */
function checkAllowed(baseUrl: string, allowedUrls: readonly string[]): void {
  const address = addressOf(baseUrl);
  if (allowedUrls.includes(address)) return;
  const allowed = allowedUrls.length === 0 ? 'none is allowed' : `it allows ${allowedUrls.join(', ')}`;
  const message = `The operator of this service decides which addresses it may call for an import: ${allowed}. Import with lora import-openai from your own machine, or ask for ${address} in IMPORT_OPENAI_URLS.`;
  throw new ProductError('forbidden', message, { param: 'base_url' });
}

const HEARTBEAT = ': still here\n\n';

/** Events as text, with a comment where none came for a while. The error that ends the import is the last event. */
async function* textOf(
  first: IteratorResult<OpenaiImportEvent, void>,
  events: Events,
  { request, heartbeatMs, revoked }: { request: FastifyRequest; heartbeatMs: number; revoked: AbortSignal },
): AsyncGenerator<string> {
  try {
    for (let next = first; !next.done; ) {
      yield eventText(next.value);
      const coming = events.next();
      for (;;) {
        const found = await inTime(coming, heartbeatMs, () => null);
        if (found !== null) {
          next = found;
          break;
        }
        yield HEARTBEAT;
      }
    }
  } catch (thrown) {
    const error = revoked.aborted ? keyRevoked() : productErrorOf(thrown, request);
    if (error.code !== 'cancelled') logError(error, thrown, request);
    const { message } = publicText(error);
    yield eventText({ type: 'import-failed', error: { code: error.code, message, details: error.details } });
  } finally {
    await events.return().catch(() => {});
  }
}

function keyRevoked(): ProductError {
  return new ProductError('unauthorized', 'The API key of this call was revoked meanwhile, so the import has ended.');
}

const eventText = (event: OpenaiImportEvent) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
