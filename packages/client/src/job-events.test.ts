import type { JobEvent } from '@lorasmith/contracts';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { type Answer, failure, hangUp, json, serve } from '../test/http-server.js';
import { createHttpTransport } from './http-transport.js';
import { type FollowOptions, followJobEvents } from './job-events.js';

const JOB = 'job_0123456789abcdef01234567';
const event = (id: string, type: string, data: object = {}) =>
  `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify({ id, job: JOB, created_at: '2026-01-01T00:00:00Z', type, data })}\n\n`;
const checkpoint = (id: string) => event(id, 'checkpoint-saved', { step: 1 });
const cancelled = (id: string) => event(id, 'job-cancelled');

/** Ids of the events that the running test has received. */
let received: string[];
beforeEach(() => {
  received = [];
});

/** Streams the text, then ends, cuts or keeps the connection. */
const stream =
  (text: string, then: 'end' | 'cut' | 'stay'): Answer =>
  async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    await new Promise((resolve) => response.write(text, resolve));
    if (then === 'end') response.end();
    if (then !== 'cut') return;
    // Data that the client has not read is lost with the connection.
    const [, last] = [...text.slice(0, text.lastIndexOf('\n\n')).matchAll(/^id: (.+)$/gm)].at(-1) ?? [];
    await vi.waitUntil(() => received.includes(last ?? ''), { timeout: 60_000 });
    response.destroy();
  };

async function follow(baseUrl: string, options: FollowOptions = {}): Promise<string[]> {
  const transport = createHttpTransport({ baseUrl });
  for await (const { id } of followJobEvents(transport, JOB, { reconnectDelayMs: 1, ...options })) received.push(id);
  return received;
}

describe('followJobEvents', () => {
  it('continues after the last received event when a connection is cut or ends early, and stops at the last event', async () => {
    const server = await serve(
      stream(event('1-0', 'job-queued') + checkpoint('2-0'), 'cut'),
      // Cut within an event, which must be sent again.
      stream(`${checkpoint('3-0')}id: 4-0\ndata: {"id":"4-`, 'cut'),
      stream(': heartbeat\n\n', 'end'),
      stream(checkpoint('4-0') + cancelled('5-0') + checkpoint('6-0'), 'stay'),
    );
    expect(await follow(server.baseUrl)).toEqual(['1-0', '2-0', '3-0', '4-0', '5-0']);
    expect(server.requests.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '2-0', '3-0', '3-0']);
    expect(server.requests[0]).toMatchObject({ url: `/jobs/${JOB}/events`, headers: { accept: 'text/event-stream' } });
  });

  it('continues after the last event of a job that was resumed', async () => {
    const server = await serve(
      stream(cancelled('1-0') + event('2-0', 'job-resumed') + checkpoint('3-0') + cancelled('4-0'), 'end'),
    );
    expect(await follow(server.baseUrl)).toEqual(['1-0', '2-0', '3-0', '4-0']);
    expect(server.requests).toHaveLength(1);
  });

  it('starts after a given event', async () => {
    const server = await serve(stream(cancelled('9-0'), 'end'));
    expect(await follow(server.baseUrl, { after: '8-0' })).toEqual(['9-0']);
    expect(server.requests[0]?.headers['last-event-id']).toBe('8-0');
  });

  it('ends without an event if the job has ended and has no later events', async () => {
    const server = await serve((response) => {
      response.writeHead(204).end();
    });
    expect(await follow(server.baseUrl, { after: '9-0' })).toEqual([]);
    expect(server.requests).toHaveLength(1);
  });

  it('retries while the api is unavailable or overloaded', async () => {
    const server = await serve(
      failure(503, 'redis_unavailable'),
      failure(429, 'too_many_requests'),
      hangUp,
      stream(cancelled('1-0'), 'end'),
    );
    expect(await follow(server.baseUrl)).toEqual(['1-0']);
  });

  it('throws errors that a retry cannot fix at once', async () => {
    const server = await serve(failure(404, 'job_not_found'));
    await expect(follow(server.baseUrl)).rejects.toMatchObject({ code: 'job_not_found', status: 404 });
    expect(server.requests).toHaveLength(1);
  });

  it('fails after the maximum number of consecutive failures; any received data resets the count', async () => {
    const server = await serve(hangUp, hangUp, stream(': alive\n\n', 'end'), hangUp, hangUp);
    await expect(follow(server.baseUrl, { maxFailures: 3 })).rejects.toMatchObject({ code: 'service_unavailable' });
    expect(server.requests).toHaveLength(5);
  });

  it('closes a silent connection and reconnects', async () => {
    const server = await serve(stream(checkpoint('1-0'), 'stay'), stream(cancelled('2-0'), 'end'));
    expect(await follow(server.baseUrl, { idleTimeoutMs: 100 })).toEqual(['1-0', '2-0']);
    expect(server.requests[1]?.headers['last-event-id']).toBe('1-0');
  });

  it('skips unknown event types and keeps its position', async () => {
    const server = await serve(stream(event('1-0', 'moon-risen') + cancelled('2-0'), 'end'));
    expect(await follow(server.baseUrl)).toEqual(['2-0']);
  });

  it('refuses data that is not JSON', async () => {
    const server = await serve(stream('data: <html>\n\n', 'stay'));
    await expect(follow(server.baseUrl)).rejects.toMatchObject({ code: 'invalid_request' });
  });

  it('rejects with the reason of the signal, while reading and while waiting', async () => {
    const server = await serve(stream(checkpoint('1-0'), 'stay'));
    const reading = new AbortController();
    const events: JobEvent[] = [];
    const promise = (async () => {
      const transport = createHttpTransport({ baseUrl: server.baseUrl });
      for await (const one of followJobEvents(transport, JOB, { signal: reading.signal })) {
        events.push(one);
        reading.abort(new Error('enough'));
      }
    })();
    await expect(promise).rejects.toThrow('enough');
    expect(events).toHaveLength(1);

    const unavailable = await serve(hangUp);
    const waiting = new AbortController();
    setTimeout(() => waiting.abort(new Error('enough')), 100);
    await expect(follow(unavailable.baseUrl, { signal: waiting.signal, reconnectDelayMs: 60_000 })).rejects.toThrow(
      'enough',
    );
  });

  it('closes its connection when the caller stops reading', async () => {
    let closed: (() => void) | undefined;
    const isClosed = new Promise<void>((resolve) => {
      closed = resolve;
    });
    const server = await serve(async (response, request) => {
      response.on('close', () => closed?.());
      await stream(checkpoint('1-0'), 'stay')(response, request);
    });
    for await (const _ of followJobEvents(createHttpTransport({ baseUrl: server.baseUrl }), JOB)) break;
    await isClosed;
  });

  it('refuses an answer that is not an event stream', async () => {
    const server = await serve(json(200, { data: [] }));
    await expect(follow(server.baseUrl)).rejects.toThrow(/answered with application\/json, not with events/);
    expect(server.requests).toHaveLength(1);
  });
});
