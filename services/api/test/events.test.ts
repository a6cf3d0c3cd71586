import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Dataset,
  type Job,
  type JobEvent,
  JobEventList,
  type JobId,
  type NewJobEvent,
  type Paged,
} from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/queue';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startOwnRedis } from '../../../test/real-redis.js';
import { jsonOf } from './json-of.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

let server: RealRedis;
let api: RealApi;
let url: string;
let dataset: string;
let job: JobId;

beforeAll(async () => {
  server = await startOwnRedis();
  api = await startRealApi({ redisUrl: server.url, prefix: server.prefix });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  const headers = { 'content-type': 'text/plain' };
  const uploaded = await fetch(`${url}/datasets`, { method: 'POST', headers, body: promptRows(8) });
  dataset = (await jsonOf<Dataset>(uploaded)).id;
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});
beforeEach(async () => {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ base_model: 'tiny-llama', dataset });
  job = (await jsonOf<Job>(await fetch(`${url}/jobs`, { method: 'POST', headers, body }))).id;
});

async function attemptOf(id: JobId): Promise<JobAttempt> {
  const start = await api.jobs.attempts.start(id, 'worker-1');
  if (start.outcome !== 'started') throw new Error(start.reason);
  return start.attempt;
}

const checkpoint = (step: number): NewJobEvent => ({ type: 'checkpoint-saved', data: { step } });

/** The fields of the messages of a stream, parsed as in the HTML standard. */
function messagesOf(text: string): Record<string, string>[] {
  const blocks = text
    .split('\n\n')
    .map((block) => block.split('\n').filter((line) => line !== '' && !line.startsWith(':')));
  return blocks
    .filter((lines) => lines.length > 0)
    .map((lines) =>
      Object.fromEntries(lines.map((line) => line.match(/^(\w+): ?(.*)$/)!.slice(1, 3) as [string, string])),
    );
}

function open(headers: Record<string, string> = {}, signal?: AbortSignal) {
  return fetch(`${url}/jobs/${job}/events`, {
    headers: { accept: 'text/event-stream', ...headers },
    ...(signal === undefined ? {} : { signal }),
  });
}

describe('the event stream', () => {
  test('starts with past events, continues with new ones, and ends after the last event', async () => {
    const attempt = await attemptOf(job);
    const answer = await open();
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    for (let step = 1; step <= 3; step++) await api.jobs.attempts.record(attempt, checkpoint(step));
    let text = '';
    let isFailed = false;
    for await (const piece of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += piece;
      // Comments keep the connection open while there are no events.
      if (isFailed || !text.includes(': still here\n\n')) continue;
      isFailed = true;
      await api.jobs.attempts.fail(attempt, { code: 'non_finite_loss', message: 'It broke.', details: [] });
    }
    const messages = messagesOf(text).filter((message) => 'data' in message);
    expect(messages.map(({ event }) => event)).toEqual([
      'job-queued',
      'job-started',
      'checkpoint-saved',
      'checkpoint-saved',
      'checkpoint-saved',
      'job-failed',
    ]);
    for (const { id, event, data } of messages) expect(JSON.parse(data!)).toMatchObject({ id, type: event, job });
  });

  test('can be replayed from any event, and is empty after the last one', async () => {
    const attempt = await attemptOf(job);
    for (let step = 1; step <= 5; step++) await api.jobs.attempts.record(attempt, checkpoint(step));
    await api.jobs.attempts.cancel(attempt);
    const idsOf = (text: string) => messagesOf(text).flatMap(({ id }) => id ?? []);
    const all = idsOf(await (await open()).text());
    expect(all).toHaveLength(8);
    for (const [index, id] of all.slice(0, -1).entries()) {
      expect(idsOf(await (await open({ 'last-event-id': id })).text())).toEqual(all.slice(index + 1));
    }
    expect((await open({ 'last-event-id': all.at(-1)! })).status).toBe(204);
    const byQuery = await fetch(`${url}/jobs/${job}/events?after=${all[3]}`);
    expect(idsOf(await byQuery.text())).toEqual(all.slice(4));
  });

  test('serves many clients at once, over few connections to Redis', async () => {
    const attempt = await attemptOf(job);
    const streams = await Promise.all(Array.from({ length: 30 }, () => open()));
    const texts = streams.map((answer) => answer.text());
    await sleep(300);
    const redis = await import('ioredis').then(({ Redis }) => new Redis(server.url));
    const clients = (await redis.client('LIST')) as string;
    await redis.quit();
    expect(clients.trim().split('\n').length).toBeLessThan(8);
    for (let step = 1; step <= 20; step++) await api.jobs.attempts.record(attempt, checkpoint(step));
    await api.jobs.attempts.cancel(attempt);
    for (const text of await Promise.all(texts)) {
      expect(messagesOf(text).filter(({ event }) => event === 'checkpoint-saved')).toHaveLength(20);
    }
  });

  test('stops waiting when its client disconnects, and when the job is deleted', async () => {
    const leaving = new AbortController();
    const answer = await open({}, leaving.signal);
    leaving.abort();
    await expect(answer.text()).rejects.toThrow();
    const whole = open().then((opened) => opened.text());
    await sleep(50);
    await api.jobs.requestCancel(job);
    expect(messagesOf(await whole).at(-1)?.event).toBe('job-cancelled');
  });

  test.each(['x', '-', '1-2-3', '0-0;DROP'])('the event stream after %j is refused', async (id) => {
    const answer = await open({ 'last-event-id': id });
    expect([answer.status, (await jsonOf(answer)).error.code]).toEqual([400, 'invalid_request']);
  });

  test('ends when the service shuts down', async () => {
    const other = await startRealApi({ redisUrl: server.url, prefix: server.prefix, changes: { heartbeatMs: 60_000 } });
    const address = await other.app.listen({ host: '127.0.0.1', port: 0 });
    const answer = await fetch(`${address}/jobs/${job}/events`, { headers: { accept: 'text/event-stream' } });
    const whole = answer.text();
    await sleep(50);
    // Much sooner than the next heartbeat.
    await other.stop();
    expect(messagesOf(await whole).at(-1)?.event).toBe('job-queued');
  });
});

describe('the events as JSON', () => {
  test('are returned page by page', async () => {
    const attempt = await attemptOf(job);
    for (let step = 1; step <= 5; step++) await api.jobs.attempts.record(attempt, checkpoint(step));
    const page = async (query: string) => {
      const answer = await fetch(`${url}/jobs/${job}/events?${query}`, { headers: { accept: 'application/json' } });
      const list = await jsonOf<Paged<JobEvent>>(answer);
      expect(Value.Check(JobEventList, list)).toBe(true);
      return list;
    };
    const first = await page('limit=3');
    expect(first.data.map(({ type }) => type)).toEqual(['job-queued', 'job-started', 'checkpoint-saved']);
    expect(first.has_more).toBe(true);
    const rest = await page(`after=${first.next}`);
    expect(rest.data.map(({ data }) => data)).toEqual([2, 3, 4, 5].map((step) => ({ step })));
    expect(rest.has_more).toBe(false);
  });
});
