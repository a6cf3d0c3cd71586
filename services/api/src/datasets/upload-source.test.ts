import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import multipart from '@fastify/multipart';
import type { ProductError } from '@lorasmith/contracts';
import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { RAW_CONTENT_TYPES, uploadSourceOf } from './upload-source.js';

const UNNAMED = { name: null, columns: undefined, signal: new AbortController().signal };
const FORM = 'multipart/form-data; boundary=b';
const HEAD = '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n';
const PART = `${HEAD}{"text":"a"}\n`;

/** The sender disconnects while the staging folder is being created. */
test.each([FORM, 'application/jsonl'])(
  'a sender that is gone before its chunks are read: they throw (%s)',
  async (contentType) => {
    const app = Fastify();
    await app.register(multipart);
    app.addContentTypeParser(RAW_CONTENT_TYPES, (_request, payload, done) => done(null, payload));
    const outcome = new Promise<unknown>((resolve) => {
      app.post('/', async (request) => {
        const { chunks } = uploadSourceOf(request, UNNAMED, 1_000);
        await new Promise((gone) => request.raw.once('close', gone));
        const read = async () => {
          for await (const _ of chunks);
        };
        resolve(await read().catch((error: unknown) => error));
      });
    });
    await app.listen({ host: '127.0.0.1', port: 0 });
    try {
      const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
      socket.write(`POST / HTTP/1.1\r\nhost: a\r\ncontent-type: ${contentType}\r\ncontent-length: 900\r\n\r\n${PART}`);
      await once(socket, 'connect');
      setTimeout(() => socket.destroy(), 100);
      expect(await outcome).toMatchObject({
        code: 'invalid_request',
        message: 'The upload is incomplete: its sender disconnected.',
      });
    } finally {
      await app.close();
    }
  },
);

test('a form that exceeds the limit and ends without its last boundary is too large, also for a slow reader', async () => {
  const app = Fastify();
  await app.register(multipart);
  app.post('/', async (request) => {
    const { chunks } = uploadSourceOf(request, UNNAMED, 100_000);
    const ended = once(request.raw, 'close');
    const read = async () => {
      for await (const _ of chunks) await ended;
    };
    return await read().then(
      () => 'read',
      (error: ProductError) => error.code,
    );
  });
  const payload = `${HEAD}${'{"text":"a"}\n'.repeat(10_000)}`;
  const { body } = await app.inject({ method: 'POST', url: '/', headers: { 'content-type': FORM }, payload });
  expect(body).toBe('body_too_large');
});
