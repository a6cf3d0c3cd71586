import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { outcomeOf, raw, withKey } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import { type HostileStack, stagings } from '../hostile-stack.js';

const INVALID = '400 invalid_request';
const CLOSE = 'host: localhost\r\nconnection: close\r\n';
const hidden = `GET /models HTTP/1.1\r\n${CLOSE}\r\n`;

const bytes = (name: string, outcome: string, ...pieces: (string | Uint8Array | null)[]): HostileCase => ({
  name,
  outcome,
  open: String(pieces[0]).startsWith('GET /live '),
  send: (stack) => raw(stack, ...pieces),
});
const post = (name: string, outcome: string, head: string, body: string) =>
  bytes(name, outcome, `POST /jobs HTTP/1.1\r\n${CLOSE}content-type: application/json\r\n${head}\r\n\r\n${body}`);

const notHttp: HostileCase[] = [
  bytes('text that is not HTTP', INVALID, 'hello\r\n\r\n'),
  bytes('a TLS handshake', INVALID, Buffer.from('1603010200010001fc0303', 'hex')),
  bytes('HTTP/2 without negotiation', INVALID, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  bytes('an unknown version', INVALID, `GET /live HTTP/9.9\r\n${CLOSE}\r\n`),
  bytes('HTTP/1.1 without a host', INVALID, 'GET /live HTTP/1.1\r\nconnection: close\r\n\r\n'),
  bytes('two hosts', INVALID, 'GET /live HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n'),
  bytes('zero bytes', INVALID, Buffer.alloc(1_000)),
  bytes('an unknown method', INVALID, `EVIL /live HTTP/1.1\r\n${CLOSE}\r\n`),
  bytes('a tunnel', 'closed', `CONNECT 169.254.169.254:80 HTTP/1.1\r\n${CLOSE}\r\n`),
  bytes('a header without a colon', INVALID, `GET /live HTTP/1.1\r\n${CLOSE}x\r\n\r\n`),
  bytes('a header with a space before its colon', INVALID, `GET /live HTTP/1.1\r\n${CLOSE}x : y\r\n\r\n`),
  bytes('a header with a zero byte', INVALID, `GET /live HTTP/1.1\r\n${CLOSE}x: a\0b\r\n\r\n`),
  bytes('a header over two lines', INVALID, `GET /live HTTP/1.1\r\n${CLOSE}x: a\r\n b\r\n\r\n`),
  bytes('lines that end in LF only', INVALID, 'GET /live HTTP/1.1\nhost: x\nconnection: close\n\n'),
  bytes('a header of 1 MB', '431 invalid_request', `GET /live HTTP/1.1\r\n${CLOSE}x: ${'a'.repeat(1_000_000)}\r\n\r\n`),
  bytes('200 headers', '200', `GET /live HTTP/1.1\r\n${CLOSE}${'a: b\r\n'.repeat(200)}\r\n`),
  // Between them the versions of Node differ: newer ones count something for each header.
  bytes('20,000 headers', '431 invalid_request', `GET /live HTTP/1.1\r\n${CLOSE}${'a: b\r\n'.repeat(20_000)}\r\n`),
];

const lengths: HostileCase[] = [
  post('two lengths', INVALID, 'content-length: 2\r\ncontent-length: 3', '{}x'),
  post('a negative length', INVALID, 'content-length: -1', '{}'),
  post('a length that is not a number', INVALID, 'content-length: 2x', '{}'),
  post('a length with a sign', INVALID, 'content-length: +2', '{}'),
  post('a length of 10^30', INVALID, `content-length: 1${'0'.repeat(30)}`, '{}'),
  post('a length below that of the body', '400 invalid_request', 'content-length: 1', `{}${hidden}`),
  post('a length and chunks', INVALID, 'content-length: 2\r\ntransfer-encoding: chunked', '0\r\n\r\n'),
  post('chunks and a length', INVALID, 'transfer-encoding: chunked\r\ncontent-length: 6', `0\r\n\r\n${hidden}`),
  post('chunks under another name', INVALID, 'transfer-encoding: xchunked', '2\r\n{}\r\n0\r\n\r\n'),
  post('chunked as a coding that is not the last one', INVALID, 'transfer-encoding: chunked, identity', '0\r\n\r\n'),
  post('chunks twice', INVALID, 'transfer-encoding: chunked\r\ntransfer-encoding: chunked', `0\r\n\r\n${hidden}`),
  post('chunks hidden by a space', INVALID, 'transfer-encoding : chunked', '0\r\n\r\n'),
  post('chunks with a vertical tab', INVALID, 'transfer-encoding: \x0bchunked', '0\r\n\r\n'),
  post('a chunk size that is not a number', INVALID, 'transfer-encoding: chunked', 'zz\r\n{}\r\n0\r\n\r\n'),
  post('a chunk of 2^64 bytes', INVALID, 'transfer-encoding: chunked', '10000000000000000\r\n{}'),
  post('a chunk with a negative size', INVALID, 'transfer-encoding: chunked', '-1\r\n{}\r\n0\r\n\r\n'),
  post('a chunk longer than its size', INVALID, 'transfer-encoding: chunked', '1\r\n{}\r\n0\r\n\r\n'),
  post(
    'a chunk with an extension of 100 KB',
    INVALID,
    'transfer-encoding: chunked',
    `2;${'x'.repeat(100_000)}\r\n{}\r\n0\r\n\r\n`,
  ),
  post(
    'trailers of 100 KB',
    '431 invalid_request',
    'transfer-encoding: chunked',
    `2\r\n{}\r\n0\r\n${'a: b\r\n'.repeat(20_000)}\r\n`,
  ),
  bytes(
    'a GET with another request as its body',
    '200',
    `GET /live HTTP/1.1\r\n${CLOSE}content-length: ${hidden.length}\r\n\r\n${hidden}`,
  ),
  bytes(
    'a DELETE with a body',
    '415 unsupported_media_type',
    `DELETE /jobs/x HTTP/1.1\r\n${CLOSE}content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}`,
  ),
];

/** Keeps `count` connections open that send a byte every 50 ms, and calls `probe` meanwhile. */
async function whileSlow(stack: HostileStack, count: number, head: string, probe: () => Promise<string>) {
  const { hostname, port } = new URL(stack.apiUrl);
  const sockets: Socket[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const socket = connect({ host: hostname, port: Number(port) });
      socket.on('error', () => {});
      socket.write(withKey(stack, head));
      sockets.push(socket);
    }
    const drip = setInterval(() => {
      for (const socket of sockets) if (!socket.destroyed) socket.write('a');
    }, 50);
    try {
      return await probe();
    } finally {
      clearInterval(drip);
    }
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

const live = (stack: HostileStack) => () => outcomeOf(stack, 'GET', '/ready');

const slow: HostileCase[] = [
  {
    name: 'other requests are answered during 200 silent connections',
    outcome: '200',
    send: (stack) => whileSlow(stack, 200, '', live(stack)),
  },
  {
    name: 'other requests are answered during 200 requests with slow headers',
    outcome: '200',
    send: (stack) => whileSlow(stack, 200, 'GET /live HTTP/1.1\r\nx: ', live(stack)),
  },
  {
    name: 'other requests are answered during 100 slow uploads',
    outcome: '200',
    send: (stack) =>
      whileSlow(
        stack,
        100,
        'POST /datasets HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n',
        live(stack),
      ),
  },
  {
    name: 'other requests are answered during 100 event streams that nobody reads',
    outcome: '200',
    send: (stack) =>
      whileSlow(stack, 100, `GET /jobs/${stack.job}/events HTTP/1.1\r\nhost: localhost\r\n\r\n`, live(stack)),
  },
  {
    name: 'another import is answered during 8 slow ones',
    outcome: '415 unsupported_media_type',
    send: (stack) =>
      whileSlow(
        stack,
        8,
        'POST /adapters HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-tar\r\ncontent-length: 100000\r\n\r\n',
        async () => {
          for (const end = Date.now() + 40_000; (await stagings(stack)).length < 8 && Date.now() < end; )
            await sleep(20);
          return await outcomeOf(stack, 'POST', '/adapters', {
            headers: { 'content-type': 'application/x-tar' },
            body: 'no tar',
          });
        },
      ),
  },
];

export const brokenHttp: HostileTable = { kind: 'broken HTTP', cases: [...notHttp, ...lengths] };

export const slowSenders: HostileTable = { kind: 'slow senders', cases: slow };
