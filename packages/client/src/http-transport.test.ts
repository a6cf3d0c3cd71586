import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ProductError } from '@lorasmith/contracts';
import { describe, expect, it, vi } from 'vitest';
import { type Answer, failure, hangUp, json, serve } from '../test/http-server.js';
import { ApiError } from './api-error.js';
import { bodyChunks, bodyText, createHttpTransport, type HttpCall } from './http-transport.js';
import { followJobEvents } from './job-events.js';

const read: HttpCall = { method: 'GET', path: '/jobs' };
const write: HttpCall = { method: 'POST', path: '/jobs', body: '{}' };

describe('createHttpTransport', () => {
  it('sends key and query, and keeps the path prefix of the address', async () => {
    const server = await serve(json(200, { data: [] }));
    const transport = createHttpTransport({ baseUrl: `${server.baseUrl}/lorasmith/`, apiKey: 'secret' });
    const answer = await transport.json({ ...read, query: { limit: 5, after: undefined, status: 'a&b' } });
    expect(answer).toEqual({ data: [] });
    expect(server.requests[0]).toMatchObject({
      url: '/lorasmith/jobs?limit=5&status=a%26b',
      headers: { authorization: 'Bearer secret', accept: 'application/json' },
    });
  });

  it('throws the error of the answer with all its fields', async () => {
    const details = [{ code: 'unknown_field', message: 'No such field.', param: 'lora.rank' }];
    const server = await serve(failure(400, 'unknown_field', details));
    const error = await createHttpTransport({ baseUrl: server.baseUrl })
      .request(read)
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toBeInstanceOf(ProductError);
    expect(error).toMatchObject({ code: 'unknown_field', status: 400, details, requestId: 'req_1' });
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    [404, 'not_found'],
    [418, 'invalid_request'],
    [500, 'internal_error'],
    [502, 'service_unavailable'],
    [504, 'timeout'],
  ])('makes an error of a page with status %i that is not ours', async (status, code) => {
    const server = await serve((response) => {
      response.writeHead(status, { 'content-type': 'text/html' }).end('<h1>nginx</h1>');
    });
    const failed = createHttpTransport({ baseUrl: server.baseUrl }).request({ ...read, repeatable: false });
    await expect(failed).rejects.toMatchObject({ code, status, requestId: null });
  });

  it('keeps the status of an unknown error code', async () => {
    const server = await serve(failure(409, 'from_the_future'));
    const failed = createHttpTransport({ baseUrl: server.baseUrl }).request(read);
    await expect(failed).rejects.toMatchObject({ code: 'conflict', status: 409, message: 'It is from_the_future.' });
  });

  it('refuses an answer that is not JSON', async () => {
    const server = await serve((response) => {
      response.end('hello');
    });
    const failed = createHttpTransport({ baseUrl: server.baseUrl }).json(read);
    await expect(failed).rejects.toMatchObject({ code: 'service_unavailable' });
  });

  it('retries a read twice, and a write only if it is repeatable', async () => {
    const server = await serve(hangUp, failure(503, 'redis_unavailable'), json(200, 'read'));
    const transport = createHttpTransport({ baseUrl: server.baseUrl });
    expect(await transport.json(read)).toBe('read');

    const unavailable = await serve(hangUp);
    const toUnavailable = createHttpTransport({ baseUrl: unavailable.baseUrl });
    await expect(toUnavailable.request(write)).rejects.toMatchObject({ code: 'service_unavailable', status: 503 });
    expect(unavailable.requests).toHaveLength(1);
    await expect(toUnavailable.request({ ...write, repeatable: true })).rejects.toMatchObject({
      code: 'service_unavailable',
    });
    expect(unavailable.requests).toHaveLength(1 + 3);
  });

  it('names the address and the cause if nothing listens there', async () => {
    const server = await serve(hangUp);
    await server.close();
    const failed = createHttpTransport({ baseUrl: server.baseUrl }).request({ ...read, repeatable: false });
    await expect(failed).rejects.toThrow(`No answer from ${server.baseUrl} (ECONNREFUSED)`);
  });

  it('fails after the time limit without a retry', async () => {
    const server = await serve(() => {});
    const counted = vi.fn(fetch);
    const failed = createHttpTransport({ baseUrl: server.baseUrl, timeoutMs: 50, fetch: counted }).request(read);
    await expect(failed).rejects.toMatchObject({ code: 'timeout' });
    expect(counted).toHaveBeenCalledTimes(1);
  });

  it('rejects with the reason of the signal', async () => {
    const server = await serve(() => {});
    const signal = AbortSignal.timeout(50);
    await expect(createHttpTransport({ baseUrl: server.baseUrl }).request({ ...read, signal })).rejects.toBe(
      await new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason))),
    );
  });

  it('does not send the key to the target of a redirect', async () => {
    const other = await serve(json(200, {}));
    const server = await serve((response) => {
      response.writeHead(302, { location: other.baseUrl }).end();
    });
    const transport = createHttpTransport({ baseUrl: server.baseUrl, apiKey: 'secret' });
    await expect(transport.request({ ...read, repeatable: false })).rejects.toMatchObject({
      code: 'service_unavailable',
    });
    expect(other.requests).toHaveLength(0);
  });

  it.each(['', 'localhost:8080', 'ftp://host', '127.0.0.1'])('refuses the address %j', (baseUrl) => {
    expect(() => createHttpTransport({ baseUrl })).toThrow(/must be an http\(s\) URL/);
  });
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Sends one event and then nothing more. `closed` resolves when the client has closed the connection. */
function oneEvent(): { answer: Answer; closed: Promise<void> } {
  let onClose = () => {};
  const closed = new Promise<void>((resolve) => {
    onClose = resolve;
  });
  const data = JSON.stringify({ id: '1-0', job: 'job_1', created_at: '', type: 'job-queued', data: {} });
  return {
    closed,
    answer(response) {
      response.on('close', () => onClose());
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`id: 1-0\ndata: ${data}\n\n`);
    },
  };
}

/** The link between the signal of a fetch and its body is collected only after a while. */
async function collectGarbageRepeatedly() {
  for (let round = 0; round < 10; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    collectGarbage();
  }
}

describe('bodyChunks', () => {
  it('rejects with the reason of the signal and closes the connection, also after garbage collection', async () => {
    const { answer, closed } = oneEvent();
    const server = await serve(answer);
    const controller = new AbortController();
    const { signal } = controller;
    const reading = (async () => {
      const transport = createHttpTransport({ baseUrl: server.baseUrl });
      for await (const _ of followJobEvents(transport, 'job_1', { signal }));
    })();
    await collectGarbageRepeatedly();
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    await closed;
  });

  it('closes the connection when the reader leaves', async () => {
    const { answer, closed } = oneEvent();
    const server = await serve(answer);
    for await (const _ of bodyChunks(await fetch(server.baseUrl))) break;
    await closed;
  });

  it('reads nothing if the signal is already aborted', async () => {
    const { answer, closed } = oneEvent();
    const server = await serve(answer);
    await expect(bodyText(await fetch(server.baseUrl), AbortSignal.abort(new Error('late')))).rejects.toThrow('late');
    await closed;
  });

  it('joins characters that are split between chunks', async () => {
    const server = await serve(async (response) => {
      const bytes = Buffer.from('grün');
      for (const byte of bytes) await new Promise((resolve) => response.write(Buffer.of(byte), resolve));
      response.end();
    });
    expect(await bodyText(await fetch(server.baseUrl))).toBe('grün');
  });
});
