import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { type Answer, serve } from '../test/http-server.js';
import { bodyChunks, bodyText, createHttpTransport } from './http-transport.js';
import { followJobEvents } from './job-events.js';

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
