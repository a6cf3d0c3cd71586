import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { PassThrough, type Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lingerOnClose } from './connections.js';
import { boundedChunks, createHttpApp, createLogger, type HttpApp } from './index.js';

// More than the send and receive buffers of the system hold.
const BODY_BYTES = 64_000_000;
const PIECE = Buffer.alloc(1_000_000, 'x');

let app: HttpApp;
let port: number;

beforeEach(async () => {
  app = createHttpApp({ logger: createLogger({ service: 'test', level: 'silent' }), bodyLimitBytes: 1_000 });
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload));
  app.post('/json', async () => ({}));
  app.post('/streamed', async ({ body }) => {
    for await (const _ of boundedChunks(body as Readable, 1_000, 'file'));
    return {};
  });
  app.post('/piped', async ({ body }) => {
    const pipe = (body as Readable).pipe(new PassThrough());
    for await (const _ of boundedChunks(pipe, 1_000, 'file'));
    return {};
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  port = (app.server.address() as { port: number }).port;
});
afterEach(() => app.close());

/** Sends all of a body, and reads only then, as many clients do. */
async function sendWhole(path: string, length: string, type: string, pieces: Buffer[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.pause();
  socket.write(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: ${type}\r\n${length}\r\n\r\n`);
  for (const piece of pieces) if (!socket.write(piece)) await once(socket, 'drain');
  const answer: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => answer.push(chunk)).resume();
  await once(socket, 'close');
  return Buffer.concat(answer).toString();
}

const PIECES = Array.from({ length: BODY_BYTES / PIECE.length }, () => PIECE);
const CHUNK = Buffer.concat([Buffer.from(`${PIECE.length.toString(16)}\r\n`), PIECE, Buffer.from('\r\n')]);
const CHUNKS = [...PIECES.map(() => CHUNK), Buffer.from('0\r\n\r\n')];
const BYTES = 'application/octet-stream';

describe('a client that sends the whole of a body that is too large reads the answer afterwards:', () => {
  test.each([
    ['JSON', '/json', 'application/json', 'The body is larger than the limit of 1000 bytes.'],
    ['a streamed body', '/streamed', BYTES, 'The file is larger than the limit of 1000 bytes.'],
    ['a piped body', '/piped', BYTES, 'The file is larger than the limit of 1000 bytes.'],
  ])('%s', async (_name, path, type, message) => {
    for (const [length, pieces] of [
      [`content-length: ${BODY_BYTES}`, PIECES],
      ['transfer-encoding: chunked', CHUNKS],
    ] as const) {
      const answer = await sendWhole(path, length, type, pieces);
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      expect(answer).toContain('connection: close');
      expect(answer).toContain(message);
    }
  });

  test('to a path without a route', async () => {
    expect(await sendWhole('/nothing', `content-length: ${BODY_BYTES}`, BYTES, PIECES)).toMatch(/^HTTP\/1\.1 404 /);
  });
});

describe('a connection that lingers is closed', () => {
  const { ms, silenceMs, bytes } = { ms: 1e6, silenceMs: 1e6, bytes: 1e12 };

  test.each([
    ['without a further byte', { ms, silenceMs: 300, bytes }, 1e6],
    ['after a time, although bytes arrive', { ms: 1_000, silenceMs, bytes }, 1],
    ['after a number of bytes', { ms, silenceMs, bytes: 50_000 }, 1],
    ['at once, where too many linger', { ms, silenceMs, bytes, connections: 0 }, 1],
  ])('%s', async (_name, limits, everyMs) => {
    const server = createServer((_request, response) => response.writeHead(413, { connection: 'close' }).end('no'));
    lingerOnClose(server, { connections: 1, ...limits });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    client.on('error', () => {}).resume();
    const ended = once(client, 'end');
    const [socket] = (await once(server, 'connection')) as [Socket];
    client.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000000\r\n\r\n');
    const sending = setInterval(() => client.write(Buffer.alloc(1_000)), everyMs);
    await once(socket, 'close');
    await ended;
    clearInterval(sending);
    client.destroy();
    server.close();
  });
});

test('a closing server does not wait for connections that linger', async () => {
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.write('POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000000\r\n\r\n');
  client.on('error', () => {}).resume();
  await once(client, 'end');
  // As long as bytes arrive, it would linger for 30 s.
  const sending = setInterval(() => client.write('x'), 100);
  await app.close();
  clearInterval(sending);
  client.destroy();
});
