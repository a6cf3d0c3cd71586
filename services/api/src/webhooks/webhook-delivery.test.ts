import { getEventListeners, once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, LookupFunction } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type PostOptions, postWebhook } from './webhook-delivery.js';

let server: Server;
let port: number;
let requests: { url: string | undefined; host: string | undefined; body: string }[] = [];
let answer: (path: string | undefined) => { status: number; headers?: Record<string, string>; body?: string } | null;

beforeEach(async () => {
  requests = [];
  answer = () => ({ status: 204 });
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      requests.push({ url: request.url, host: request.headers.host, body });
      const answered = answer(request.url);
      if (answered !== null) response.writeHead(answered.status, answered.headers).end(answered.body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** A resolver with one answer after the other. */
const resolving = (...answers: string[][]): LookupFunction => {
  let calls = 0;
  return (_host, _options, callback) => {
    const addresses = answers[Math.min(calls++, answers.length - 1)]!;
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  };
};

const post = (changes: Partial<PostOptions>) =>
  postWebhook({
    url: `http://receiver.example:${port}/hook`,
    headers: { 'content-type': 'application/json' },
    body: '{"é":1}',
    allowPrivate: true,
    timeoutMs: 5_000,
    signal: new AbortController().signal,
    lookup: resolving(['127.0.0.1']),
    ...changes,
  });

test('sends the body to the address that the name resolves to, and returns the status', async () => {
  expect(await post({})).toEqual({ status: 204, body: '' });
  expect(requests).toEqual([{ url: '/hook', host: `receiver.example:${port}`, body: '{"é":1}' }]);
});

test('leaves nothing in the signal of the sender, which lives as long as the process', async () => {
  const { signal } = new AbortController();
  const links = () => getEventListeners(signal, 'abort').length;
  let whileSent = 0;
  answer = () => {
    whileSent = links();
    return { status: 204 };
  };
  await post({ signal });
  expect([whileSent, links()]).toEqual([1, 0]);
  answer = () => null;
  await expect(post({ signal, timeoutMs: 50 })).rejects.toThrow('There was no answer');
  expect(links()).toBe(0);
});

test.each([
  ['a loopback address', ['127.0.0.1']],
  ['a private address', ['10.0.0.1']],
  ['the metadata address of a cloud', ['169.254.169.254']],
  ['an IPv6 address of this machine', ['::1']],
  ['a mapped one', ['::ffff:127.0.0.1']],
  ['a public and a private one', ['93.184.216.34', '127.0.0.1']],
])('refuses a name that resolves to %s', async (_, addresses) => {
  const sent = post({ url: `https://receiver.example:${port}/`, allowPrivate: false, lookup: resolving(addresses) });
  await expect(sent).rejects.toThrow('is in a private network');
  expect(requests).toEqual([]);
});

test('refuses a name that resolves to a private address only the second time', async () => {
  // The first answer is what a check before the connection would see; there is none, so this is the one that counts.
  const lookup = resolving(['127.0.0.1'], ['93.184.216.34']);
  await expect(post({ url: `https://receiver.example:${port}/`, allowPrivate: false, lookup })).rejects.toThrow(
    'is in a private network',
  );
  expect(requests).toEqual([]);
});

test('asks the resolver once for a connection', async () => {
  let calls = 0;
  const lookup: LookupFunction = (host, options, callback) => {
    calls++;
    resolving(['127.0.0.1'])(host, options, callback);
  };
  await post({ lookup });
  expect(calls).toBe(1);
});

test('checks an address that no resolver sees', async () => {
  await expect(post({ url: `https://127.0.0.1:${port}/`, allowPrivate: false })).rejects.toThrow('private network');
  expect(requests).toEqual([]);
});

test('follows no redirection', async () => {
  answer = (path) =>
    path === '/hook' ? { status: 307, headers: { location: `http://127.0.0.1:${port}/other` } } : { status: 200 };
  expect(await post({ maxAnswerBytes: 100 })).toEqual({ status: 307, body: '' });
  expect(requests.map(({ url }) => url)).toEqual(['/hook']);
});

test('reads nothing of a large answer', async () => {
  answer = () => ({ status: 200, body: 'x'.repeat(10_000_000) });
  expect(await post({})).toEqual({ status: 200, body: '' });
});

test('reads an answer up to a size', async () => {
  answer = () => ({ status: 200, body: '{"é":1}' });
  expect(await post({ maxAnswerBytes: 8 })).toEqual({ status: 200, body: '{"é":1}' });
  await expect(post({ maxAnswerBytes: 7 })).rejects.toThrow('has more than 7 bytes');
  answer = () => ({ status: 200, body: 'x'.repeat(10_000_000) });
  await expect(post({ maxAnswerBytes: 1_000 })).rejects.toThrow('has more than 1000 bytes');
});

test('gives up a receiver that does not end its answer, and one that breaks it off', async () => {
  server.removeAllListeners('request');
  server.on('request', (_, response) => response.writeHead(200).write('{"rewards": ['));
  await expect(post({ maxAnswerBytes: 1_000, timeoutMs: 50 })).rejects.toThrow('There was no answer within 0.05 s.');
  server.removeAllListeners('request');
  server.on('request', (_, response) => {
    response.writeHead(200, { 'content-length': 100 }).write('{"rewards": [', () => response.destroy());
  });
  await expect(post({ maxAnswerBytes: 1_000 })).rejects.toThrow('aborted');
});

test('gives up a receiver that does not answer', async () => {
  answer = () => null;
  await expect(post({ timeoutMs: 50 })).rejects.toThrow('There was no answer within 0.05 s.');
});

test('fails where nobody listens, and for a name without an address', async () => {
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
  await expect(post({})).rejects.toThrow('ECONNREFUSED');
  await expect(post({ lookup: resolving([]) })).rejects.toThrow('has no address');
});
