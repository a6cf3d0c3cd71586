import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { boundedChunks, createHttpApp, createLogger, type HttpApp } from './index.js';

const STALL_MS = 400;

let app: HttpApp;
let port: number;
let ended: unknown[];
/** Resolved by the test: the service reads on. */
let readOn: ReturnType<typeof held>;

function held() {
  let release = () => {};
  const until = new Promise<void>((resolve) => {
    release = resolve;
  });
  return { until, release };
}

beforeEach(async () => {
  ended = [];
  readOn = held();
  app = createHttpApp({ logger: createLogger({ service: 'test', level: 'silent' }), bodyStallMs: STALL_MS });
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload));
  app.post('/json', async () => ({}));
  app.post('/streamed', async ({ body }) => {
    try {
      for await (const _ of boundedChunks(body as Readable, 1_000_000, 'file')) await readOn.until;
      return { complete: true };
    } catch (error) {
      ended.push(error);
      throw error;
    }
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  port = (app.server.address() as { port: number }).port;
});
afterEach(() => app.close());

async function begin(path: string, type: string, bytes: number, first: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  const head = `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: ${type}\r\ncontent-length: ${bytes}\r\n\r\n`;
  socket.write(head + first);
  return socket;
}

test.each([
  ['JSON', '/json', 'application/json'],
  ['a streamed body', '/streamed', 'application/octet-stream'],
])('of %s that stops, the sender reads why, and its connection is closed', async (_name, path, type) => {
  readOn.release();
  const socket = await begin(path, type, 100, '{"text":');
  const answer = await text(socket);
  expect(answer).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
  expect(answer).toContain('Nothing of the body arrived for 0.4 s. Send the request again.');
  if (path === '/streamed') await expect.poll(() => ended).toMatchObject([{ code: 'invalid_request' }]);
  await expect.poll(() => connections()).toBe(0);
  socket.destroy();
});

test('a body that the service does not read yet is not stalled', async () => {
  const socket = await begin('/streamed', 'application/octet-stream', 200_000, 'x'.repeat(199_999));
  await new Promise((resolve) => setTimeout(resolve, 3 * STALL_MS));
  readOn.release();
  socket.end('x');
  expect(await text(socket)).toContain('{"complete":true}');
});

async function connections(): Promise<number> {
  return await new Promise((resolve, reject) => {
    app.server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}
