import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { Readable } from 'node:stream';
import { createHttpApp, createLogger } from '@lorasmith/service-kit';
import { expect, onTestFinished, test } from 'vitest';
import { answerDownload } from './answer-download.js';

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
