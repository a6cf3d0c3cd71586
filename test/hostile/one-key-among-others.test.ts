import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKey } from '../api-keys.js';
import { ask, type RequestContent } from './ask.js';
import { type HostileStack, LIMITS, stagings, startHostileStack } from './hostile-stack.js';

// One key does what it may as often as it may: those of another key are answered meanwhile. How fast is measured in `bench`, by
// `--only neighbour`.

const UPLOADS = 16;
const SETTINGS = {
  UPLOAD_STALL_MS: '3000',
  KEY_UPLOADS: String(UPLOADS),
  UPLOADS_MAX: String(UPLOADS + 1),
  KEY_REQUESTS_PER_MINUTE: '1000000',
};
const JSONL = { 'content-type': 'application/x-ndjson' };

let stack: HostileStack;
let hostile: string;
beforeAll(async () => {
  stack = await startHostileStack(SETTINGS, 'train');
  hostile = await createKey(stack, 'train');
});
afterAll(() => stack?.stop());

/** The status of a request of the other key. */
async function statusOf(method: string, target: string, content: RequestContent = {}): Promise<number> {
  return (await ask(stack, method, target, content)).status;
}

const uploaded = () => statusOf('POST', '/datasets', { headers: JSONL, body: `{"text":"${Math.random()}"}\n` });

/** Uploads in progress. */
const staged = async () => (await stagings(stack)).length;

async function othersAreAnswered(): Promise<void> {
  for (const target of ['/jobs', '/datasets', '/adapters', '/v1/models', `/jobs/${stack.job}`]) {
    expect([target, await statusOf('GET', target)]).toEqual([target, 200]);
  }
  expect(await uploaded()).toBe(201);
  const body = JSON.stringify({ base_model: 'tiny-llama', dataset: stack.dataset });
  const job = { headers: { 'content-type': 'application/json' }, body };
  expect(await statusOf('POST', '/jobs?dry_run=true', job)).toBe(200);
  expect(await statusOf('POST', '/jobs', job)).toBe(202);
}

test('uploads whose rows take minutes to check keep no other key waiting, and end with their sender', async () => {
  // Each row is another one, so that it grows less than what is refused: nearly seven million rows in 5 MB or so.
  const rows = Array.from({ length: 1_000 }, (_, row) => `{"text":"${(row * 7919) % 1_000}"}\n`).join('');
  const bomb = gzipSync(Buffer.alloc(LIMITS.datasetBytes - 1, rows), { level: 1 });
  const leaving = new AbortController();
  const answers: unknown[] = [];
  const uploads = Array.from({ length: UPLOADS }, async () => {
    const headers = { authorization: `Bearer ${hostile}`, 'content-type': 'application/gzip' };
    const init = { method: 'POST', headers, body: bomb, signal: leaving.signal };
    answers.push(await fetch(`${stack.apiUrl}/datasets`, init).catch((error: unknown) => error));
  });
  // The file as it was sent, and its rows.
  await expect.poll(staged).toBe(2 * UPLOADS);
  for (let round = 0; round < 3; round++) await othersAreAnswered();
  expect(answers).toEqual([]);
  leaving.abort();
  await Promise.all(uploads);
  await expect.poll(staged).toBe(0);
});

test('uploads that stop after some bytes are ended, and keep no place', async () => {
  const sockets = await Promise.all(Array.from({ length: UPLOADS }, begin));
  await expect.poll(staged).toBe(UPLOADS);
  const answers = await Promise.all(sockets.map(async (socket) => String((await once(socket, 'data'))[0])));
  for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  await expect.poll(staged).toBe(0);
  for (const socket of sockets) socket.destroy();
  await othersAreAnswered();
});

/** An upload of the hostile key that sends 13 bytes. */
async function begin(): Promise<Socket> {
  const { port } = new URL(stack.apiUrl);
  const socket = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  const head = [
    'POST /datasets HTTP/1.1',
    'host: 127.0.0.1',
    `authorization: Bearer ${hostile}`,
    'content-type: application/x-ndjson',
    'content-length: 1000',
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n{"text":"a"}\n`);
  return socket;
}
