import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { localModels } from '@lorasmith/base-models';
import type { ChildProgram } from '@lorasmith/child-processes';
import type { AdapterManifest } from '@lorasmith/contracts';
import { digestArchitecture, readModelFolder } from '@lorasmith/model-folder';
import {
  createLogger,
  createMetrics,
  type FileAnswer,
  type FileSegment,
  type HttpApp,
  NO_TRACING,
} from '@lorasmith/service-kit';
import { type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readGguf } from '../../../scripts/setup/gguf.mjs';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { AdapterLibrary } from '../src/adapters/adapter-library.js';
import { buildApp } from '../src/app.js';
import { AdapterImport } from '../src/importing/adapter-import.js';
import { MergedModels, type MergeEvent } from '../src/merging/merged-models.js';
import { countMerges } from '../src/registry-metrics.js';
import { faultyProgram, importProgram, mergeProgram } from './merge-program.js';
import { adapterId, addBaseModel, publishReferenceAdapter, REFERENCE } from './published-adapter.js';

const run = promisify(execFile);
const ID = adapterId(1);
const TOKEN = 'the token of the data folder';
const TRAINED = join(REFERENCE, 'llama-tied/adapter_trained');

let root: string;
let adapters: LocalBundleStore;
let merged: LocalBundleStore;
let events: MergeEvent[];
let app: HttpApp;
let models: MergedModels;
let url: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'registry-'));
  adapters = await openBundleStore({ root: join(root, 'data'), kind: 'adapters' });
  merged = await openBundleStore({ root: join(root, 'data'), kind: 'merged' });
  await addBaseModel(join(root, 'models'), 'llama-tied');
  await publishReferenceAdapter(adapters, { id: ID, name: 'llama-tied' });
  await listen(mergeProgram());
});
afterEach(async () => {
  await app.close();
  await rm(root, { recursive: true });
});

async function listen(program: ChildProgram, cacheBytes = 2 ** 30): Promise<void> {
  await app?.close();
  events = [];
  const metrics = createMetrics({ service: 'registry' });
  const countMerge = countMerges(metrics);
  models = await MergedModels.open({
    adapters,
    merged,
    baseModels: localModels(join(root, 'models')),
    weightDigests: join(root, 'data/weight-digests'),
    program,
    cacheBytes,
    mergeTimeoutMs: 60_000,
    waitTimeoutMs: 60_000,
    tracing: NO_TRACING,
    onEvent(event) {
      events.push(event);
      countMerge(event);
    },
  });
  const library = new AdapterLibrary({ store: adapters, onBroken: () => {} });
  app = await buildApp({
    logger: createLogger({ service: 'registry', level: 'silent' }),
    metrics,
    tracing: NO_TRACING,
    library,
    adapters,
    merged,
    models,
    imports: new AdapterImport({
      adapters,
      library,
      baseModels: localModels(join(root, 'models')),
      weightDigests: join(root, 'data/weight-digests'),
      program: importProgram(),
      timeoutMs: 60_000,
      maxStoredBytes: 2 ** 20,
    }),
    secret: null,
    readyChecks: {},
    maxImportBytes: 2 ** 20,
    downloadStallMs: 60_000,
    dataDir: join(root, 'data'),
    folderToken: TOKEN,
    redirectDownloads: false,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}

const get = (path: string, headers: Record<string, string> = {}) => fetch(`${url}${path}`, { headers });
/** Reads the body: a connection with an unread body would prevent the server from closing. */
const statusOf = async (path: string) => {
  const response = await get(path);
  await response.arrayBuffer();
  return response.status;
};
const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer());
const errorOf = async (response: Response) => ({
  status: response.status,
  ...((await response.json()) as { error: { code: string; message: string } }).error,
});
const merges = () => events.filter(({ type }) => type === 'merge-started').length;

/** A request of an api that shares the data folder. @returns the segments, and the reader of the answer, which stays open */
async function getFiles(path: string, headers: Record<string, string> = {}) {
  const response = await get(path, { ...headers, 'x-lorasmith-data-folder': TOKEN });
  expect(response.headers.get('x-lorasmith-files')).toBe('1');
  const reader = response.body!.getReader();
  const { segments } = JSON.parse(Buffer.from((await reader.read()).value!).toString()) as FileAnswer;
  return { response, reader, segments };
}

/** The bytes that a file answer describes. */
async function bytesOfFiles(segments: FileSegment[]): Promise<Buffer> {
  const parts = segments.map(async (part) => {
    if ('content' in part) return Buffer.from(part.content, 'base64');
    const bytes = await readFile(join(root, 'data', part.file));
    expect(bytes.length).toBe(part.fileBytes);
    return bytes.subarray(part.start, part.end + 1);
  });
  return Buffer.concat(await Promise.all(parts));
}

async function unpack(bytes: Buffer): Promise<string> {
  const folder = join(root, `unpacked-${createHash('sha256').update(bytes).digest('hex').slice(0, 8)}`);
  await mkdir(folder);
  await writeFile(join(root, 'download.tar'), bytes);
  await run('tar', ['-xf', join(root, 'download.tar'), '-C', folder]);
  return folder;
}

describe('an adapter', () => {
  test('is downloaded as a tar of its PEFT folder and manifest', async () => {
    const response = await get(`/adapters/${ID}`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/x-tar');
    expect(response.headers.get('content-disposition')).toBe(`attachment; filename="${ID}.tar"`);
    expect(response.headers.get('accept-ranges')).toBe('bytes');
    expect(response.headers.get('etag')).toMatch(/^"[0-9a-f]{64}"$/);
    const bytes = await bytesOf(response);
    expect(response.headers.get('content-length')).toBe(String(bytes.byteLength));
    const folder = await unpack(bytes);
    expect((await readdir(folder)).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'manifest.json',
    ]);
    for (const name of ['adapter_config.json', 'adapter_model.safetensors']) {
      expect(await readFile(join(folder, name))).toEqual(await readFile(join(TRAINED, name)));
    }
  });

  test('is downloaded as weights only and as single files, and described by its manifest', async () => {
    const weights = await readFile(join(TRAINED, 'adapter_model.safetensors'));
    const sha256 = createHash('sha256').update(weights).digest('hex');
    for (const path of [`/adapters/${ID}?format=safetensors`, `/adapters/${ID}/files/adapter_model.safetensors`]) {
      const response = await get(path);
      expect(response.headers.get('etag')).toBe(`"${sha256}"`);
      expect(await bytesOf(response)).toEqual(weights);
    }
    const config = await get(`/adapters/${ID}/files/adapter_config.json`);
    expect(config.headers.get('content-type')).toMatch(/^application\/json/);
    expect(await bytesOf(config)).toEqual(await readFile(join(TRAINED, 'adapter_config.json')));
    const { data } = (await (await get(`/adapters/${ID}/files`)).json()) as { data: { name: string }[] };
    expect(data.map(({ name }) => name)).toEqual(['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']);
    expect(data[1]).toEqual({ name: 'adapter_model.safetensors', bytes: weights.byteLength, sha256 });
    expect(await (await get(`/adapters/${ID}/manifest`)).json()).toMatchObject({ id: ID, object: 'adapter' });
  });

  test('of linear layers alone is the same with layers of each expert', async () => {
    const weights = await readFile(join(TRAINED, 'adapter_model.safetensors'));
    expect(await bytesOf(await get(`/adapters/${ID}?layout=per-expert&format=safetensors`))).toEqual(weights);
    const tar = await bytesOf(await get(`/adapters/${ID}?layout=per-expert`));
    expect(tar).toEqual(await bytesOf(await get(`/adapters/${ID}?layout=peft`)));
    for (const query of ['weights=merged', 'format=gguf']) {
      const error = await errorOf(await get(`/adapters/${ID}?layout=per-expert&${query}`));
      expect(error).toMatchObject({ status: 400, code: 'invalid_request', param: 'layout' });
    }
  });

  test('is listed newest first, page by page, without broken ones', async () => {
    for (const number of [2, 3, 4]) {
      const createdAt = `2026-05-0${number + 3}T00:00:00.000Z`;
      const id = adapterId(number);
      await publishReferenceAdapter(adapters, {
        id,
        name: 'llama-tied',
        createdAt,
        ...(number === 3 && { spoil: (folder: string) => writeFile(join(folder, 'manifest.json'), '{') }),
      });
    }
    const first = await (await get('/adapters?limit=2')).json();
    expect(first).toMatchObject({
      has_more: true,
      next: adapterId(2),
      data: [{ id: adapterId(4) }, { id: adapterId(2) }],
    });
    const second = await (await get(`/adapters?limit=2&after=${adapterId(2)}`)).json();
    const { data: files } = (await (await get(`/adapters/${ID}/files`)).json()) as { data: { bytes: number }[] };
    const bytes = files[0]!.bytes + files[1]!.bytes;
    expect(second).toEqual({
      has_more: false,
      next: null,
      // The damaged one is in the index, too.
      total: 4,
      data: [
        {
          id: ID,
          object: 'adapter',
          origin: { kind: 'trained', job: ID.replace('ad_', 'job_') },
          owner: null,
          name: 'a-name',
          tags: [],
          note: null,
          base_model: 'llama-tied',
          bytes,
          created_at: '2026-05-04T03:02:01.500Z',
        },
      ],
    });
    expect(await errorOf(await get('/adapters?after=ad_x'))).toMatchObject({ status: 400, code: 'invalid_request' });
    expect(await statusOf('/adapters?limit=0')).toBe(400);
    expect(await statusOf('/adapters?limit=2&colour=red')).toBe(400);
  });

  test('is deleted permanently', async () => {
    await get(`/adapters/${ID}?weights=merged`).then(bytesOf);
    expect((await fetch(`${url}/adapters/${ID}`, { method: 'DELETE' })).status).toBe(204);
    expect(await errorOf(await get(`/adapters/${ID}`))).toMatchObject({ status: 404, code: 'adapter_not_found' });
    expect((await fetch(`${url}/adapters/${ID}`, { method: 'DELETE' })).status).toBe(404);
    expect(await merged.list()).toEqual([]);
    expect(await (await get('/adapters')).json()).toMatchObject({ data: [] });
  });

  test('an adapter that is damaged on disk is refused with the name of the file', async () => {
    const spoils = {
      'adapter_model.safetensors': (folder: string) => writeFile(join(folder, 'adapter_model.safetensors'), 'spoilt'),
      'adapter_config.json': (folder: string) => rm(join(folder, 'adapter_config.json')),
      'manifest.json': (folder: string) => writeFile(join(folder, 'manifest.json'), '{"id": 1}'),
    };
    for (const [index, [name, spoil]] of Object.entries(spoils).entries()) {
      const id = adapterId(10 + index);
      await publishReferenceAdapter(adapters, { id, name: 'llama-tied', spoil });
      for (const path of [`/adapters/${id}`, `/adapters/${id}/manifest`, `/adapters/${id}?weights=merged`]) {
        const error = await errorOf(await get(path));
        expect(error).toMatchObject({ status: 422, code: 'invalid_adapter', message: expect.stringContaining(name) });
      }
    }
    expect(merges()).toBe(0);
  });
});

describe('a GGUF file', () => {
  const path = `/adapters/${ID}?format=gguf`;

  test('a GGUF file of the merged model is computed once for each type, with a model card, and is a valid file', async () => {
    const responses = await Promise.all([1, 2, 3].map(() => get(`${path}&weights=merged&type=q8_0`)));
    const downloads = await Promise.all(responses.map(bytesOf));
    expect(merges()).toBe(1);
    for (const download of downloads) expect(download.equals(downloads[0]!)).toBe(true);
    expect(responses[0]!.headers.get('content-disposition')).toContain(`${ID}-merged-q8_0.gguf`);
    const file = join(root, 'model.gguf');
    await writeFile(file, downloads[0]!);
    const gguf = await readGguf(file);
    expect(gguf.metadata.get('general.architecture')).toBe('llama');
    expect(gguf.tensors.get('blk.0.ffn_down.weight')?.type).toMatch(/Q8_0|F16/);
    const files = `/adapters/${ID}/files?format=gguf&weights=merged&type=q8_0`;
    const { data } = (await (await get(files)).json()) as { data: { name: string; sha256: string }[] };
    expect(data.map(({ name }) => name)).toEqual(['README.md', `${ID}-merged-q8_0.gguf`]);
    expect(createHash('sha256').update(downloads[0]!).digest('hex')).toBe(data[1]!.sha256);
    const range = await get(`${path}&weights=merged&type=q8_0`, { range: 'bytes=4-7' });
    expect([range.status, ...(await bytesOf(range))]).toEqual([206, 3, 0, 0, 0]);
    expect(merges()).toBe(1);
    await get(`${path}&weights=merged`).then(bytesOf);
    expect(await merged.list()).toEqual([`${ID}.merged-f16`, `${ID}.merged-q8_0`]);
  });

  test('a GGUF file of the adapter is in float32 by default, and is deleted with the adapter', async () => {
    const response = await get(path);
    expect(response.headers.get('content-disposition')).toContain(`${ID}-adapter-f32.gguf`);
    expect((await bytesOf(response)).subarray(0, 4).toString()).toBe('GGUF');
    expect((await fetch(`${url}/adapters/${ID}`, { method: 'DELETE' })).status).toBe(204);
    expect(await merged.list()).toEqual([]);
  });

  test.runIf(HAS_ALL_CASES)(
    'is found again after a restart, and computed again after a crash of the process',
    async () => {
      await listen(faultyProgram('crash'));
      expect(await errorOf(await get(path))).toMatchObject({ status: 500, code: 'merge_crashed' });
      expect(await merged.list()).toEqual([]);
      await listen(mergeProgram());
      const first = await get(path).then(bytesOf);
      await listen(faultyProgram('crash'));
      expect((await get(path).then(bytesOf)).equals(first)).toBe(true);
    },
  );

  test.runIf(HAS_ALL_CASES)('a GGUF file of a model that GGUF cannot express is refused by name', async () => {
    const config = join(root, 'models/llama-tied/config.json');
    const changed = { ...JSON.parse(await readFile(config, 'utf8')), hidden_act: 'gelu' };
    await writeFile(config, JSON.stringify(changed));
    const model = await readModelFolder(join(root, 'models/llama-tied'));
    const id = adapterId(77);
    const change = (manifest: AdapterManifest) => {
      manifest.base_model.architecture_sha256 = digestArchitecture(model.architecture);
    };
    await publishReferenceAdapter(adapters, { id, name: 'llama-tied', change });
    expect(await errorOf(await get(`/adapters/${id}?format=gguf`))).toMatchObject({
      status: 422,
      code: 'model_not_supported',
      message: expect.stringContaining('no gelu in llama models'),
    });
  });
});

describe('a merged model', () => {
  test('is computed once for concurrent requests, and is a complete model folder', async () => {
    const responses = await Promise.all(Array.from({ length: 5 }, () => get(`/adapters/${ID}?weights=merged`)));
    const downloads = await Promise.all(responses.map(bytesOf));
    expect(merges()).toBe(1);
    for (const [index, response] of responses.entries()) {
      expect(response.status).toBe(200);
      expect(response.headers.get('content-length')).toBe(String(downloads[0]!.byteLength));
      expect(downloads[index]!.equals(downloads[0]!)).toBe(true);
    }
    const folder = await unpack(downloads[0]!);
    expect((await readdir(folder)).sort()).toEqual([
      'README.md',
      'config.json',
      'generation_config.json',
      'model.safetensors',
    ]);
    const weights = await bytesOf(await get(`/adapters/${ID}?weights=merged&format=safetensors`));
    expect(weights).toEqual(await readFile(join(folder, 'model.safetensors')));
    const { data } = (await (await get(`/adapters/${ID}/files?weights=merged`)).json()) as { data: { name: string }[] };
    expect(data.map(({ name }) => name)).toEqual([
      'README.md',
      'config.json',
      'generation_config.json',
      'model.safetensors',
    ]);
    const config = await get(`/adapters/${ID}/files/config.json?weights=merged`);
    expect(await bytesOf(config)).toEqual(await readFile(join(REFERENCE, 'llama-tied/base/config.json')));
    expect(merges()).toBe(1);
  });

  test('a merged model without its base model is an error that names the base model', async () => {
    await rm(join(root, 'models/llama-tied'), { recursive: true });
    const error = await errorOf(await get(`/adapters/${ID}?weights=merged`));
    expect(error).toMatchObject({
      status: 404,
      code: 'model_not_found',
      message: expect.stringContaining('llama-tied'),
    });
    expect(await statusOf(`/adapters/${ID}`)).toBe(200);
  });

  test.runIf(HAS_ALL_CASES)('is a 500 if the merge process crashes, and works on the next request', async () => {
    await listen(faultyProgram('crash'));
    expect(await errorOf(await get(`/adapters/${ID}?weights=merged`))).toMatchObject({
      status: 500,
      code: 'merge_crashed',
    });
    await listen(mergeProgram());
    expect(await statusOf(`/adapters/${ID}?weights=merged`)).toBe(200);
  });

  test.runIf(HAS_ALL_CASES)(
    'is not evicted while the api reads its files, which does not delay a shutdown',
    async () => {
      const ofOther = `/adapters/${adapterId(2)}?weights=merged`;
      await publishReferenceAdapter(adapters, { id: adapterId(2), name: 'llama-tied' });
      const { segments } = await getFiles(`/adapters/${ID}?weights=merged`);
      const bytes = (await bytesOfFiles(segments)).length;
      await listen(mergeProgram(), Math.ceil(1.5 * bytes));
      const { reader } = await getFiles(`/adapters/${ID}?weights=merged`);
      expect(await errorOf(await get(ofOther))).toMatchObject({ status: 503, code: 'service_unavailable' });
      await reader.cancel();
      await expect.poll(() => statusOf(ofOther)).toBe(200);
      const open = await getFiles(ofOther);
      await app.close();
      expect((await open.reader.read()).done).toBe(true);
    },
  );

  test.runIf(HAS_ALL_CASES)('is still computed for the others if one client disconnects', async () => {
    const disconnect = new AbortController();
    const first = fetch(`${url}/adapters/${ID}?weights=merged`, { signal: disconnect.signal });
    await expect.poll(merges).toBe(1);
    const second = get(`/adapters/${ID}?weights=merged`);
    disconnect.abort();
    await expect(first).rejects.toThrow();
    const response = await second;
    expect(response.status).toBe(200);
    await response.arrayBuffer();
    expect(merges()).toBe(1);
  });
});

describe.each([
  ['the adapter tar', `/adapters/${ID}`],
  ['the merged tar', `/adapters/${ID}?weights=merged`],
  ['a file', `/adapters/${ID}/files/adapter_model.safetensors`],
])('%s', (_, path) => {
  test('is served in ranges, byte for byte', async () => {
    const response = await get(path);
    const etag = response.headers.get('etag')!;
    const whole = await bytesOf(response);
    const size = whole.byteLength;
    const ranges: [string, number, number][] = [
      ['bytes=0-0', 0, 0],
      ['bytes=0-511', 0, 511],
      ['bytes=500-1600', 500, 1600],
      [`bytes=${size - 1}-`, size - 1, size - 1],
      ['bytes=-700', size - 700, size - 1],
      [`bytes=1000-${size + 1000}`, 1000, size - 1],
      ['bytes=0-', 0, size - 1],
    ];
    for (const [range, start, end] of ranges) {
      const part = await get(path, { range, 'if-range': etag });
      expect(part.status).toBe(206);
      expect(part.headers.get('content-range')).toBe(`bytes ${start}-${end}/${size}`);
      expect(part.headers.get('content-length')).toBe(String(end - start + 1));
      expect(part.headers.get('etag')).toBe(etag);
      expect((await bytesOf(part)).equals(whole.subarray(start, end + 1))).toBe(true);
      const files = await getFiles(path, { range, 'if-range': etag });
      expect(files.response.status).toBe(206);
      for (const name of ['content-range', 'etag', 'content-type', 'content-disposition', 'accept-ranges']) {
        expect(files.response.headers.get(name)).toBe(part.headers.get(name));
      }
      expect((await bytesOfFiles(files.segments)).equals(whole.subarray(start, end + 1))).toBe(true);
      await files.reader.cancel();
    }
    const beyond = await get(path, { range: `bytes=${size}-`, 'x-lorasmith-data-folder': TOKEN });
    expect(beyond.headers.get('content-range')).toBe(`bytes */${size}`);
    expect(await errorOf(beyond)).toMatchObject({ status: 416, code: 'range_not_satisfiable' });
    const changed = await get(path, { range: 'bytes=5-9', 'if-range': '"other"' });
    expect(changed.status).toBe(200);
    expect((await bytesOf(changed)).equals(whole)).toBe(true);
  });

  test('is not sent for a matching ETag or a HEAD request', async () => {
    const whole = await get(path);
    const etag = whole.headers.get('etag')!;
    const size = (await bytesOf(whole)).byteLength;
    const token = { 'x-lorasmith-data-folder': TOKEN };
    const same = await get(path, { ...token, 'if-none-match': `"x", W/${etag}` });
    expect([same.status, same.headers.get('etag'), await same.text()]).toEqual([304, etag, '']);
    const head = await fetch(`${url}${path}`, { method: 'HEAD', headers: { ...token, range: 'bytes=0-0' } });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, String(size), '']);
    expect(head.headers.get('etag')).toBe(etag);
  });
});

describe('a path that does not exist is 404:', () => {
  test.each([
    '/adapters/ad_nothing',
    `/adapters/${adapterId(99)}`,
    `/adapters/${adapterId(99)}?weights=merged`,
    '/adapters/..%2f..%2fetc%2fpasswd',
    '/adapters/%252e%252e%252fadapters',
    '/adapters/ad_00000000000000000000000%00',
    `/adapters/${ID}%2f..%2f${ID}`,
    `/adapters/${ID}/files/..%2fmanifest.json`,
    `/adapters/${ID}/files/%252e%252e%252fmanifest.json`,
    `/adapters/${ID}/files/..%5cmanifest.json`,
    `/adapters/${ID}/files/model.safetensors`,
    `/adapters/${ID}/files/merged-files.json?weights=merged`,
    `/adapters/${ID}/files/__proto__`,
    `/adapters/${'a'.repeat(5000)}`,
    '/nothing',
  ])('%s', async (path) => {
    // `fetch` would normalize the path.
    const { status, body } = await rawGet(path);
    expect(status).toBe(404);
    expect(JSON.parse(body).error.code).toMatch(/not_found$/);
  });

  test.each(['?weights=all', '?layout=2d', '?format=zip', '?colour=red', '?weights=merged&weights=merged'])(
    '%s',
    async (query) => {
      expect(await statusOf(`/adapters/${ID}${query}`)).toBe(400);
    },
  );
});

async function rawGet(path: string): Promise<{ status: number; body: string }> {
  return await new Promise((resolve, reject) => {
    const { port } = app.server.address() as AddressInfo;
    const request = httpRequest({ host: '127.0.0.1', port, path }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode!, body }));
    });
    request.on('error', reject).end();
  });
}

test('a client that aborts a wait or a download holds no resources', async () => {
  const { port } = app.server.address() as AddressInfo;
  const openFiles = async () => (await readdir('/proc/self/fd')).length;
  const ask = () => {
    const socket = connect(port, '127.0.0.1');
    socket.write(`GET /adapters/${ID}?weights=merged HTTP/1.1\r\nHost: x\r\n\r\n`);
    return socket;
  };
  await statusOf(`/adapters/${ID}`);
  const before = await openFiles();

  const waiting = Array.from({ length: 5 }, ask);
  await expect.poll(merges).toBe(1);
  for (const socket of waiting) socket.destroy();
  await expect.poll(() => merged.has(ID)).toBe(true);
  await expect.poll(openFiles).toBeLessThanOrEqual(before);

  for (let count = 0; count < 10; count++) {
    const socket = ask();
    if (count % 2 === 0) await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
  }
  await expect.poll(openFiles).toBeLessThanOrEqual(before);
});

test('metrics report downloads, merges, the cache of merged models and requests by route', async () => {
  const whole = await (await get(`/adapters/${ID}`)).arrayBuffer();
  for (const range of ['bytes=0-9', 'bytes=10-19']) {
    await (await get(`/adapters/${ID}?weights=merged`, { range })).arrayBuffer();
  }
  await (await getFiles(`/adapters/${ID}`)).reader.cancel();
  expect(await statusOf(`/adapters/${adapterId(9)}?weights=merged`)).toBe(404);
  const lines = (await (await get('/metrics')).text()).split('\n');
  const value = (series: string) =>
    Number(
      lines
        .find((line) => line.startsWith(`${series} `))
        ?.split(' ')
        .at(-1),
    );
  expect(value('lorasmith_downloads_total{weights="adapter"}')).toBe(2);
  expect(value('lorasmith_download_bytes_total{weights="adapter"}')).toBe(2 * whole.byteLength);
  expect(value('lorasmith_downloads_total{weights="merged"}')).toBe(2);
  expect(value('lorasmith_download_bytes_total{weights="merged"}')).toBe(20);
  expect(value('lorasmith_merged_cache_requests_total{result="miss"}')).toBe(1);
  expect(value('lorasmith_merged_cache_requests_total{result="hit"}')).toBe(1);
  expect(value('lorasmith_merges_total{outcome="succeeded",code=""}')).toBe(1);
  expect(value('lorasmith_merge_seconds_count')).toBe(1);
  expect(value('lorasmith_merged_models')).toBe(1);
  expect(value('lorasmith_merges_unfinished')).toBe(0);
  expect(value('lorasmith_merged_cache_bytes{state="used"}')).toBeGreaterThan(1_000);
  expect(value('lorasmith_http_requests_total{method="GET",route="/adapters/:id",status="206"}')).toBe(2);
  expect(lines.join()).not.toContain(ID);
});
