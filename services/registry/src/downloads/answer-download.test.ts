import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { Readable } from 'node:stream';
import { createHttpApp, createLogger } from '@lorasmith/service-kit';
import { expect, onTestFinished, test } from 'vitest';
import { answerDownload, entityTag, matchesIfNoneMatch, matchesIfRange, parseByteRange } from './answer-download.js';

// More than the buffers of a connection.
const BYTES = 64 * 2 ** 20;

test('only the limit for stalls ends a download', async () => {
  const app = createHttpApp({
    logger: createLogger({ service: 'registry', level: 'silent' }),
    requestTimeoutMs: 60_000,
  });
  onTestFinished(() => app.close());
  const sent: Record<string, Readable> = {};
  app.get<{ Params: { stallMs: string } }>('/:stallMs', async (request, reply) => {
    const { stallMs } = request.params;
    const open = async () => {
      const chunk = Buffer.alloc(2 ** 20);
      sent[stallMs] = Readable.from(Array.from({ length: BYTES / chunk.length }, () => chunk));
      return sent[stallMs];
    };
    const content = { etag: '"1"', totalBytes: BYTES, contentType: 'application/x-tar', fileName: 'a.tar' };
    const download = { ...content, open, openFileAnswer: async () => null, redirection: async () => null };
    return await answerDownload(request, reply, download, { stallMs: Number(stallMs), folderToken: 'a token' });
  });
  await app.listen({ host: '127.0.0.1', port: 0 });

  const leaveUnread = async (stallMs: number) => {
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1').pause();
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    const started = once(app.server, 'request');
    socket.write(`GET /${stallMs} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    const [, response] = await started;
    return response;
  };
  const patient = await leaveUnread(3_600_000);
  const impatient = await leaveUnread(100);
  await once(impatient, 'close');
  expect(sent['100']?.destroyed).toBe(true);
  expect(patient.closed).toBe(false);
  expect(patient.socket.timeout).toBe(2 * 3_600_000);
});

test.each([
  ['bytes=0-0', { start: 0, end: 0 }],
  ['bytes=0-', { start: 0, end: 99 }],
  ['bytes=10-19', { start: 10, end: 19 }],
  ['Bytes = 10 - 19', { start: 10, end: 19 }],
  ['bytes=99-', { start: 99, end: 99 }],
  ['bytes=90-1000', { start: 90, end: 99 }],
  ['bytes=-1', { start: 99, end: 99 }],
  ['bytes=-1000', { start: 0, end: 99 }],
  ['bytes=100-', 'unsatisfiable'],
  ['bytes=100-200', 'unsatisfiable'],
  ['bytes=-0', 'unsatisfiable'],
  [undefined, 'whole'],
  ['', 'whole'],
  ['bytes=', 'whole'],
  ['bytes=-', 'whole'],
  ['bytes=5-4', 'whole'],
  ['bytes=0-1,5-6', 'whole'],
  ['bytes=1e1-20', 'whole'],
  ['bytes=0x10-', 'whole'],
  ['items=0-1', 'whole'],
  ['bytes=99999999999999999-', 'whole'],
])('%j of 100 bytes', (header, range) => {
  expect(parseByteRange(header, 100)).toEqual(range);
});

test('no range of empty content is satisfiable', () => {
  expect(parseByteRange('bytes=0-', 0)).toBe('unsatisfiable');
  expect(parseByteRange('bytes=-5', 0)).toBe('unsatisfiable');
});

const etag = entityTag('a.tar', 'sha');

test('a tag is strong, quoted, and distinguishes parts from their concatenation', () => {
  expect(etag).toMatch(/^"[0-9a-f]{64}"$/);
  expect(entityTag('ab', 'c')).not.toBe(entityTag('a', 'bc'));
});

test('If-None-Match accepts lists, weak tags and *', () => {
  for (const header of [etag, `W/${etag}`, `"other", ${etag}`, '*'])
    expect(matchesIfNoneMatch(header, etag)).toBe(true);
  for (const header of [undefined, '"other"', '', etag.slice(1)]) expect(matchesIfNoneMatch(header, etag)).toBe(false);
});

test('If-Range accepts only the strong tag', () => {
  expect(matchesIfRange(undefined, etag)).toBe(true);
  expect(matchesIfRange(etag, etag)).toBe(true);
  expect(matchesIfRange(`W/${etag}`, etag)).toBe(false);
  expect(matchesIfRange('Wed, 21 Oct 2015 07:28:00 GMT', etag)).toBe(false);
});
