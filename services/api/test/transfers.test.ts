import { once } from 'node:events';
import { mkdir, readdir, readlink, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorBody } from '@lorasmith/contracts';
import { writeFolderToken } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import type { AccessLimits } from '../src/access/limits.js';
import { type RealApi, startRealApi } from './real-api.js';

// Downloads that are not read, and imports whose sender disconnects, with a registry that sends large adapters, or names their
// file, and never answers an import.

const ADAPTER = `ad_${'1'.repeat(24)}`;
/** Longer than a busy machine stalls this process. */
const STALL_MS = 3_000;
/** The longest wait for an answer. */
const PATIENCE_MS = 120_000;
/** More than the buffers between registry and client. */
const BYTES = 64 * 2 ** 20;

let server: RealRedis;
let redis: Redis;
let registry: Server;
let keys: KeyStore;
let api: RealApi;
let port: number;
const sockets: Socket[] = [];
/** Downloads that the registry is sending, or whose file it keeps. */
let sending = 0;
/** The answer of the registry to an api that shares its data folder; null: the bytes. */
let fileAnswer: string | null = null;
/** Imports that the registry has received completely and not answered. */
let importing = 0;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
  registry = createServer((request, response) => {
    if (request.method === 'POST') {
      request.resume().once('end', () => importing++);
      response.once('close', () => importing--);
      return;
    }
    if (request.url === '/usage') {
      response.end('{"own_adapters":0,"own_bytes":0,"total_adapters":0,"total_bytes":0}');
      return;
    }
    if (!request.url?.startsWith(`/adapters/${ADAPTER}`)) {
      response.setHeader('content-type', 'application/json');
      response.end('{"data":[],"has_more":false,"next":null}');
      return;
    }
    sending++;
    response.once('close', () => sending--);
    response.setHeader('etag', '"1"');
    if (fileAnswer !== null && request.headers['x-lorasmith-data-folder']) {
      response.setHeader('x-lorasmith-files', '1').write(fileAnswer);
      return;
    }
    response.setHeader('content-length', BYTES);
    const chunk = Buffer.alloc(2 ** 16);
    let left = BYTES / chunk.length;
    const send = () => {
      while (left-- > 0) if (!response.write(chunk)) return;
      response.end();
    };
    response.on('drain', send);
    send();
  }).listen(0, '127.0.0.1');
  await once(registry, 'listening');
});
afterAll(async () => {
  registry.closeAllConnections();
  registry.close();
  await redis.quit();
  await server.stop();
});
beforeEach(() => {
  sockets.length = 0;
  fileAnswer = null;
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await api.stop();
});

async function start(limits: Partial<AccessLimits> = {}, downloadStallMs = 60_000) {
  const prefix = `${server.prefix}${Math.random()}:`;
  keys = new KeyStore({ redis, prefix });
  const access = createAccess({
    redis,
    prefix,
    keys,
    withoutKeys: 'refuse',
    limits: { ...OPEN_ACCESS.limits, ...limits },
    uploadTimeoutMs: 60_000,
  });
  const url = `http://127.0.0.1:${(registry.address() as AddressInfo).port}`;
  const address = { url, secret: async () => null };
  api = await startRealApi({ redisUrl: server.url, prefix, changes: { access, registry: address, downloadStallMs } });
  port = Number(new URL(await api.app.listen({ host: '127.0.0.1', port: 0 })).port);
}

const reader = async () => (await keys.create({ name: 'reader', role: 'read', owner: 'all' })).token;
const get = (path: string, token: string) =>
  fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(PATIENCE_MS),
  });

/** Requests the adapter and reads no byte of the answer. */
function leaveUnread(token: string): Socket {
  const socket = connect(port, '127.0.0.1').pause();
  socket.on('error', () => {});
  socket.write(`GET /adapters/${ADAPTER} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${token}\r\n\r\n`);
  sockets.push(socket);
  return socket;
}

const FILE = `adapters/${ADAPTER}/adapter_model.safetensors`;
const answerOf = (...segments: object[]) => `${JSON.stringify({ segments })}\n`;

/** Lets the registry name a file of the data folder of the api. @returns its content */
async function shareFile(): Promise<Buffer> {
  const content = Buffer.alloc(BYTES);
  for (let place = 0; place < BYTES; place += 2 ** 16) content.writeUInt32LE(place, place);
  await mkdir(path.join(api.folder, 'adapters', ADAPTER), { recursive: true });
  await writeFile(path.join(api.folder, FILE), content);
  await writeFolderToken(api.folder);
  fileAnswer = answerOf({ file: FILE, fileBytes: BYTES, start: 0, end: BYTES - 1 });
  return content;
}

/** Number of open files of the adapter. */
async function openFiles(): Promise<number> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  return (await Promise.all(links)).filter((link) => link.includes(ADAPTER)).length;
}

const until = (what: () => boolean | Promise<boolean>, label: string) =>
  expect.poll(what, { message: label }).toBe(true);

test('downloads that are not read do not block other calls', async () => {
  await start();
  const token = await reader();
  for (let i = 0; i < 140; i++) leaveUnread(token);
  await until(() => sending === 140, 'not all downloads have started');
  for (const path of ['/adapters', `/adapters?limit=1`]) expect((await get(path, token)).status).toBe(200);
});

test('downloads count per key and in total, until they are closed', async () => {
  await start({ transfers: 2, totalTransfers: 3 });
  const [one, other] = [await reader(), await reader()];
  const first = leaveUnread(one);
  leaveUnread(one);
  await until(() => sending === 2, 'the downloads have not started');
  const refused = await get(`/adapters/${ADAPTER}`, one);
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '30']);
  expect(((await refused.json()) as ErrorBody).error.code).toBe('quota_exceeded');
  leaveUnread(other);
  await until(() => sending === 3, 'the download has not started');
  const full = await get(`/adapters/${ADAPTER}`, other);
  expect([full.status, full.headers.get('retry-after')]).toEqual([503, '2']);
  expect((await get('/adapters', one)).status).toBe(200);
  first.destroy();
  await until(async () => {
    const again = await get(`/adapters/${ADAPTER}`, one);
    await again.body?.cancel();
    return again.status === 200;
  }, 'the closed download still counts');
});

test.each(['from the registry', 'from its file'])(
  'a download %s that is not read is ended, but not one that is read slowly',
  async (from) => {
    await start({}, STALL_MS);
    if (from === 'from its file') await shareFile();
    const token = await reader();
    leaveUnread(token);
    const slow = await get(`/adapters/${ADAPTER}`, token);
    const body = slow.body!.getReader();
    let bytes = 0;
    const startedAt = Date.now();
    // Reads in small steps for longer than the limit of a stall, then the rest.
    for (;;) {
      const { done, value } = await body.read();
      if (done) break;
      bytes += value.length;
      if (Date.now() - startedAt < 2 * STALL_MS) await sleep(10);
    }
    expect(bytes).toBe(BYTES);
    await until(() => sending === 0, 'the download that is not read was not ended');
    await until(async () => (await openFiles()) === 0, 'files are still open');
  },
);

test('a file that the registry names is sent even if the registry dies and the file is deleted', async () => {
  await start();
  const content = await shareFile();
  const parts = [
    { content: Buffer.from('head').toString('base64') },
    { file: FILE, fileBytes: BYTES, start: 3, end: BYTES - 5 },
  ];
  fileAnswer = answerOf(...parts);
  const answer = await get(`/adapters/${ADAPTER}`, await reader());
  expect(answer.headers.get('content-length')).toBe(String(4 + BYTES - 7));
  expect([answer.headers.get('etag'), answer.headers.get('x-lorasmith-files')]).toEqual(['"1"', null]);
  registry.closeAllConnections();
  await rm(path.join(api.folder, FILE));
  const expected = Buffer.concat([Buffer.from('head'), content.subarray(3, BYTES - 4)]);
  expect(Buffer.from(await answer.arrayBuffer()).equals(expected)).toBe(true);
});

test('a file that becomes shorter ends its download', async () => {
  await start();
  await shareFile();
  const answer = await get(`/adapters/${ADAPTER}`, await reader());
  await truncate(path.join(api.folder, FILE), 1_000);
  await expect(answer.arrayBuffer()).rejects.toThrow();
  await until(() => sending === 0, 'the registry still keeps the file');
});

test('files of anything else, and answers that are not valid, are not sent: the registry sends the bytes', async () => {
  await start();
  await shareFile();
  const token = await reader();
  const folder = path.join(api.folder, 'adapters', ADAPTER);
  await symlink(path.join(api.folder, FILE), path.join(folder, 'link'));
  await mkdir(path.join(folder, 'folder'));
  await mkdir(path.join(api.folder, 'datasets', ADAPTER), { recursive: true });
  await writeFile(path.join(api.folder, 'datasets', ADAPTER, 'data.jsonl'), '0123456789');
  const segment = { file: FILE, fileBytes: BYTES, start: 0, end: 9 };
  const wrong = [
    ...[
      `datasets/${ADAPTER}/data.jsonl`,
      `adapters/${ADAPTER.replaceAll('1', '2')}/adapter_model.safetensors`,
      `adapters/../datasets/${ADAPTER}/data.jsonl`,
      `../${path.basename(api.folder)}/${FILE}`,
      path.join(api.folder, FILE),
      `adapters/${ADAPTER}/link`,
      `adapters/${ADAPTER}/folder`,
      `adapters/${ADAPTER}/missing`,
      `adapters/${ADAPTER}/..`,
    ].map((file) => answerOf({ ...segment, file })),
    ...[{ fileBytes: BYTES - 1 }, { end: BYTES }, { start: 10 }, { start: -1 }].map((change) =>
      answerOf(segment, { ...segment, ...change }),
    ),
    '{"segments":[{}]}\n',
    'no JSON\n',
  ];
  for (const answer of wrong) {
    fileAnswer = answer;
    const response = await get(`/adapters/${ADAPTER}`, token);
    expect([answer, response.status, response.headers.get('content-length')]).toEqual([answer, 200, String(BYTES)]);
    await response.body?.cancel();
  }
  await until(async () => (await openFiles()) === 0, 'files are still open');
});

test('an import whose sender disconnects ends in the registry, and its reservation is released', async () => {
  const limits = { transfers: 1, adapterBytes: 1_000, totalAdapterBytes: 1_000 };
  await start(limits);
  const { token } = await keys.create({ name: 'sender', role: 'train' });
  const send = (signal: AbortSignal) =>
    fetch(`http://127.0.0.1:${port}/adapters`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/x-tar' },
      body: 'x'.repeat(900),
      signal,
    });
  const disconnect = new AbortController();
  const first = send(disconnect.signal);
  first.catch(() => {});
  await until(() => importing === 1, 'the import has not arrived');
  const refused = await get(`/adapters/${ADAPTER}`, token);
  await refused.body?.cancel();
  expect(refused.status).toBe(429);
  disconnect.abort();
  await until(() => importing === 0, 'the import continues in the registry');
  // The quota allows one import at a time.
  const again = new AbortController();
  const second = send(again.signal);
  second.catch(() => {});
  await until(() => importing === 1, 'the reservation of the first import was not released');
  again.abort();
  await until(() => importing === 0, 'the second import continues in the registry');
});
