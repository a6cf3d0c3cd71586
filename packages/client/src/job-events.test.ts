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

/** Of the test that runs. */
let received: string[];
beforeEach(() => {
  received = [];
});

/** Streams the text, then ends, cuts, or leaves the connection as it is. */
const stream =
  (text: string, then: 'end' | 'cut' | 'stay'): Answer =>
  async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    await new Promise((resolve) => response.write(text, resolve));
    if (then === 'end') response.end();
    if (then !== 'cut') return;
    // What the client has not read by then is lost with the connection.
    const [, last] = [...text.slice(0, text.lastIndexOf('\n\n')).matchAll(/^id: (.+)$/gm)].at(-1) ?? [];
    await vi.waitUntil(() => received.includes(last ?? ''), { timeout: 20_000 });
    response.destroy();
  };

async function follow(baseUrl: string, options: FollowOptions = {}): Promise<string[]> {
  const transport = createHttpTransport({ baseUrl });
  for await (const { id } of followJobEvents(transport, JOB, { reconnectDelayMs: 1, ...options })) received.push(id);
  return received;
}

describe('followJobEvents', () => {
  it('goes on behind the last event when connections are cut or end early, and stops at the last event', async () => {
    const server = await serve(
      stream(event('1-0', 'job-queued') + checkpoint('2-0'), 'cut'),
      // Cut within an event: that one must come again, whole.
      stream(`${checkpoint('3-0')}id: 4-0\ndata: {"id":"4-`, 'cut'),
      stream(': heartbeat\n\n', 'end'),
      stream(checkpoint('4-0') + cancelled('5-0') + checkpoint('6-0'), 'stay'),
    );
    expect(await follow(server.baseUrl)).toEqual(['1-0', '2-0', '3-0', '4-0', '5-0']);
    expect(server.requests.map(({ headers }) => headers['last-event-id'])).toEqual([undefined, '2-0', '3-0', '3-0']);
    expect(server.requests[0]).toMatchObject({ url: `/jobs/${JOB}/events`, headers: { accept: 'text/event-stream' } });
  });

  it('goes on past the end of a job that was resumed', async () => {
    const server = await serve(
      stream(cancelled('1-0') + event('2-0', 'job-resumed') + checkpoint('3-0') + cancelled('4-0'), 'end'),
    );
    expect(await follow(server.baseUrl)).toEqual(['1-0', '2-0', '3-0', '4-0']);
    expect(server.requests).toHaveLength(1);
  });

  it('begins after the event it is told', async () => {
    const server = await serve(stream(cancelled('9-0'), 'end'));
    expect(await follow(server.baseUrl, { after: '8-0' })).toEqual(['9-0']);
    expect(server.requests[0]?.headers['last-event-id']).toBe('8-0');
  });

  it('ends without an event where the job has ended and nothing comes after the place', async () => {
    const server = await serve((response) => {
      response.writeHead(204).end();
    });
    expect(await follow(server.baseUrl, { after: '9-0' })).toEqual([]);
    expect(server.requests).toHaveLength(1);
  });

  it('rides out an api that is away or overloaded', async () => {
    const server = await serve(
      failure(503, 'redis_unavailable'),
      failure(429, 'too_many_requests'),
      hangUp,
      stream(cancelled('1-0'), 'end'),
    );
    expect(await follow(server.baseUrl)).toEqual(['1-0']);
  });

  it('throws at once what waiting cannot mend', async () => {
    const server = await serve(failure(404, 'job_not_found'));
    await expect(follow(server.baseUrl)).rejects.toMatchObject({ code: 'job_not_found', status: 404 });
    expect(server.requests).toHaveLength(1);
  });

  it('gives up after as many failures in a row as it is told; a sign of life begins the count anew', async () => {
    const server = await serve(hangUp, hangUp, stream(': alive\n\n', 'end'), hangUp, hangUp);
    await expect(follow(server.baseUrl, { maxFailures: 3 })).rejects.toMatchObject({ code: 'service_unavailable' });
    expect(server.requests).toHaveLength(5);
  });

  it('leaves a connection that has gone silent', async () => {
    const server = await serve(stream(checkpoint('1-0'), 'stay'), stream(cancelled('2-0'), 'end'));
    expect(await follow(server.baseUrl, { idleTimeoutMs: 100 })).toEqual(['1-0', '2-0']);
    expect(server.requests[1]?.headers['last-event-id']).toBe('1-0');
  });

  it('passes over kinds of events it does not know, without losing its place', async () => {
    const server = await serve(stream(event('1-0', 'moon-risen') + cancelled('2-0'), 'end'));
    expect(await follow(server.baseUrl)).toEqual(['2-0']);
  });

  it('refuses data that is not JSON', async () => {
    const server = await serve(stream('data: <html>\n\n', 'stay'));
    await expect(follow(server.baseUrl)).rejects.toMatchObject({ code: 'invalid_request' });
  });

  it('ends with the reason of the signal, while it reads and while it waits', async () => {
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

    const away = await serve(hangUp);
    const waiting = new AbortController();
    setTimeout(() => waiting.abort(new Error('enough')), 100);
    await expect(follow(away.baseUrl, { signal: waiting.signal, reconnectDelayMs: 60_000 })).rejects.toThrow('enough');
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

  it('refuses an answer that is no event stream', async () => {
    const server = await serve(json(200, { data: [] }));
    await expect(follow(server.baseUrl)).rejects.toThrow(/answered with application\/json, not with events/);
    expect(server.requests).toHaveLength(1);
  });
});
