import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createHttpApp, openTracing, type Tracing } from './index.js';

// A collector that accepts OTLP over HTTP with JSON, as a real one does.
interface SentSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  status: { code: number; message?: string };
  attributes: { key: string; value: Record<string, unknown> }[];
}
let collector: Server;
let paths: (string | undefined)[];
let services: unknown[];
let spans: SentSpan[];
let tracing: Tracing;

beforeEach(async () => {
  paths = [];
  services = [];
  spans = [];
  const receive = async (request: IncomingMessage, response: ServerResponse) => {
    paths.push(request.url);
    const body = (await json(request)) as {
      resourceSpans: {
        resource: { attributes: { key: string; value: { stringValue: string } }[] };
        scopeSpans: { spans: SentSpan[] }[];
      }[];
    };
    for (const { resource, scopeSpans } of body.resourceSpans) {
      services.push(resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue);
      spans.push(...scopeSpans.flatMap((scope) => scope.spans));
    }
    response.setHeader('content-type', 'application/json').end('{}');
  };
  collector = createServer((request, response) => void receive(request, response)).listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const { port } = collector.address() as AddressInfo;
  tracing = await openTracing({
    endpoint: `http://127.0.0.1:${port}`,
    service: 'test',
    logger: pino({ level: 'silent' }),
  });
});
afterEach(async () => {
  await tracing.close();
  collector.closeAllConnections();
  collector.close();
});

const named = (name: string) => spans.find((span) => span.name === name);

test('nested work, and work in another process, is one trace', async () => {
  let carried = {};
  await tracing.span('outer', { attributes: { job: 'job_1', attempt: 2 } }, async () => {
    await tracing.span('inner', { kind: 'producer' }, async () => {
      carried = tracing.carry();
    });
  });
  await tracing.span('elsewhere', { parent: carried, kind: 'consumer' }, async () => {});
  await tracing.close();
  expect([...new Set(paths)]).toEqual(['/v1/traces']);
  expect(services[0]).toBe('lorasmith-test');
  const [outer, inner, elsewhere] = ['outer', 'inner', 'elsewhere'].map(named);
  expect(new Set([outer?.traceId, inner?.traceId, elsewhere?.traceId]).size).toBe(1);
  expect([inner?.parentSpanId, elsewhere?.parentSpanId]).toEqual([outer?.spanId, inner?.spanId]);
  expect(outer?.attributes).toContainEqual({ key: 'job', value: { stringValue: 'job_1' } });
});

test('an error is recorded in the span and rethrown', async () => {
  const failing = tracing.span('failing', {}, async () => {
    throw new Error('no space');
  });
  await expect(failing).rejects.toThrow('no space');
  await tracing.close();
  expect(named('failing')?.status).toEqual({ code: 2, message: 'no space' });
});

test('a request is a child span of its caller, and its work is below it, also after the body has arrived', async () => {
  const app = createHttpApp({ logger: pino({ level: 'silent' }) });
  tracing.traceRequests(app);
  app.post('/things/:id', async () => tracing.span('work', {}, async () => tracing.carry()));
  app.get('/live', async () => ({}));
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const traceId = 'ab'.repeat(16);
  const answers = await Promise.all(
    ['1', '2'].map(async (parent) => {
      const answer = await fetch(`http://127.0.0.1:${port}/things/secret?token=1`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', traceparent: `00-${traceId}-${parent.repeat(16)}-01` },
        body: JSON.stringify({ text: 'x'.repeat(100_000) }),
      });
      return (await answer.json()) as { traceparent: string };
    }),
  );
  await fetch(`http://127.0.0.1:${port}/live`).then((answer) => answer.text());
  await app.close();
  await tracing.close();
  const requests = spans.filter(({ name }) => name === 'POST /things/:id');
  expect(requests.map(({ parentSpanId }) => parentSpanId).sort()).toEqual(['1'.repeat(16), '2'.repeat(16)]);
  expect(requests[0]?.attributes).toContainEqual({ key: 'http.response.status_code', value: { intValue: 200 } });
  const work = spans.filter(({ name }) => name === 'work');
  expect(work.map(({ parentSpanId }) => parentSpanId).sort()).toEqual(requests.map(({ spanId }) => spanId).sort());
  expect(answers.map(({ traceparent }) => traceparent.split('-')[1])).toEqual([traceId, traceId]);
  expect(JSON.stringify(spans)).not.toContain('token');
  expect(spans).toHaveLength(4);
});

test('an unavailable collector delays neither the work nor the shutdown', async () => {
  collector.closeAllConnections();
  collector.close();
  expect(await tracing.span('lost', {}, async () => 7)).toBe(7);
  await tracing.close();
});

test('without a collector nothing is traced', async () => {
  const none = await openTracing({ endpoint: null, service: 'test', logger: pino({ level: 'silent' }) });
  expect(await none.span('work', {}, async () => none.carry())).toEqual({});
});
