import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { type Answer, serve } from '../test/http-server.js';
import { createHttpTransport } from './http-transport.js';
import { followJobEvents } from './job-events.js';
import { bodyChunks, bodyText } from './response-body.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Sends one event and then nothing more; tells when the client has gone. */
function oneEvent(): { answer: Answer; gone: Promise<void> } {
  let left = () => {};
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  const data = JSON.stringify({ id: '1-0', job: 'job_1', created_at: '', type: 'job-queued', data: {} });
  return {
    gone,
    answer(response) {
      response.on('close', () => left());
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`id: 1-0\ndata: ${data}\n\n`);
    },
  };
}

/** What connects the signal of a fetch to its body is lost to the collector only after a while. */
async function letGarbageBeCollected() {
  for (let round = 0; round < 10; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    collectGarbage();
  }
}

describe('bodyChunks', () => {
  it('ends with the reason of the signal and closes the connection, garbage collected or not', async () => {
    const { answer, gone } = oneEvent();
    const server = await serve(answer);
    const controller = new AbortController();
    const { signal } = controller;
    const reading = (async () => {
      const transport = createHttpTransport({ baseUrl: server.baseUrl });
      for await (const _ of followJobEvents(transport, 'job_1', { signal }));
    })();
    await letGarbageBeCollected();
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    await gone;
  });

  it('closes the connection when the reader leaves', async () => {
    const { answer, gone } = oneEvent();
    const server = await serve(answer);
    for await (const _ of bodyChunks(await fetch(server.baseUrl))) break;
    await gone;
  });

  it('does not begin when the signal is aborted already', async () => {
    const { answer, gone } = oneEvent();
    const server = await serve(answer);
    await expect(bodyText(await fetch(server.baseUrl), AbortSignal.abort(new Error('late')))).rejects.toThrow('late');
    await gone;
  });

  it('joins characters that the chunks cut', async () => {
    const server = await serve(async (response) => {
      const bytes = Buffer.from('grün');
      for (const byte of bytes) await new Promise((resolve) => response.write(Buffer.of(byte), resolve));
      response.end();
    });
    expect(await bodyText(await fetch(server.baseUrl))).toBe('grün');
  });
});
