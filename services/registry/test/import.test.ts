import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { Adapter, AdapterManifest, type ErrorBody } from '@lorasmith/contracts';
import { readPeftFolder } from '@lorasmith/lora/peft';
import { openSafetensors, writeSafetensors } from '@lorasmith/safetensors';
import { createLogger, type HttpApp } from '@lorasmith/service-kit';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AdapterLibrary } from '../src/adapters/adapter-library.js';
import { buildApp } from '../src/app.js';
import { AdapterImport } from '../src/importing/adapter-import.js';
import { MergedModels } from '../src/merging/merged-models.js';
import type { ChildProgram } from '../src/processes/one-shot-process.js';
import { faultyProgram, importProgram, mergeProgram } from './merge-program.js';
import { addBaseModel, REFERENCE } from './published-adapter.js';
import { pax, type RawEntry, tarOf } from './tar-bytes.js';

const run = promisify(execFile);
const INITIAL = join(REFERENCE, 'llama-tied/adapter_init');
const MAX_BYTES = 2 ** 21;

let root: string;
let adapters: BundleStore;
let app: HttpApp;
let url: string;
let config: string;
let weights: Buffer;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'registry-import-'));
  adapters = await openBundleStore({ root: join(root, 'data'), kind: 'adapters' });
  await addBaseModel(join(root, 'models'), 'llama-tied');
  config = await readFile(join(INITIAL, 'adapter_config.json'), 'utf8');
  weights = await readFile(join(INITIAL, 'adapter_model.safetensors'));
  await listen();
});
afterEach(async () => {
  await app.close();
  await rm(root, { recursive: true });
});

async function listen(program: ChildProgram = importProgram(), timeoutMs = 60_000): Promise<void> {
  await app?.close();
  const modelsDir = join(root, 'models');
  const merged = await openBundleStore({ root: join(root, 'data'), kind: 'merged' });
  const models = await MergedModels.open({
    adapters,
    merged,
    modelsDir,
    program: mergeProgram(),
    cacheBytes: 2 ** 30,
    mergeTimeoutMs: 60_000,
    waitTimeoutMs: 60_000,
    onEvent: () => {},
  });
  app = await buildApp({
    logger: createLogger({ service: 'registry', level: 'silent' }),
    library: new AdapterLibrary({ store: adapters, onBroken: () => {} }),
    adapters,
    merged,
    models,
    imports: new AdapterImport({ adapters, modelsDir, program, timeoutMs }),
    modelsDir,
    maxImportBytes: MAX_BYTES,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}

async function post(body: Uint8Array | string, query = '?base_model=llama-tied', headers: Record<string, string> = {}) {
  const response = await fetch(`${url}/adapters${query}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-tar', ...headers },
    body: body as Uint8Array<ArrayBuffer>,
  });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Adapter & { error: ErrorBody['error'] },
  };
}

/** The tar that the system's tar makes of a folder. */
async function tarOfFolder(folder: string, ...what: string[]): Promise<Buffer> {
  await run('tar', ['-cf', join(root, 'adapter.tar'), '-C', folder, ...(what.length > 0 ? what : ['.'])]);
  return await readFile(join(root, 'adapter.tar'));
}

const peftFiles = (): RawEntry[] => [
  { name: 'adapter_config.json', content: config },
  { name: 'adapter_model.safetensors', content: weights },
];
const withConfig = (change: object) =>
  tarOf([
    { name: 'adapter_config.json', content: JSON.stringify({ ...JSON.parse(config), ...change }) },
    peftFiles()[1]!,
  ]);

async function nothingIsLeft(): Promise<void> {
  expect(await adapters.list()).toEqual([]);
  expect(await readdir(join(root, 'data/.staging'))).toEqual([]);
}

/** Every tensor of the file, as it lies there. */
async function tensorsOf(file: string): Promise<Map<string, Buffer>> {
  const opened = await openSafetensors(file);
  const tensors = new Map<string, Buffer>();
  for (const name of [...opened.tensors.keys()].sort()) tensors.set(name, Buffer.from(await opened.read(name)));
  await opened.close();
  return tensors;
}

describe('an adapter of PEFT', () => {
  test('is published, listed, and comes back key for key', async () => {
    const { status, headers, body } = await post(await tarOfFolder(INITIAL), '?base_model=llama-tied&name=from-peft');
    expect(status).toBe(201);
    expect(Value.Errors(Adapter, body)).toEqual([]);
    expect(body).toMatchObject({ origin: 'imported', name: 'from-peft', job: null, base_model: 'llama-tied' });
    expect(headers.get('location')).toBe(`/adapters/${body.id}`);
    const list = (await (await fetch(`${url}/adapters`)).json()) as { data: Adapter[] };
    expect(list.data).toEqual([body]);

    const manifest = await (await fetch(`${url}/adapters/${body.id}/manifest`)).json();
    expect(Value.Errors(AdapterManifest, manifest)).toEqual([]);
    expect(manifest).toMatchObject({
      origin: 'imported',
      job: null,
      settings: null,
      lora: { r: 4, alpha: 8, rank_pattern: {}, alpha_pattern: {} },
    });
    await mkdir(join(root, 'unpacked'));
    await writeFile(
      join(root, 'back.tar'),
      Buffer.from(await (await fetch(`${url}/adapters/${body.id}`)).arrayBuffer()),
    );
    await run('tar', ['-xf', join(root, 'back.tar'), '-C', join(root, 'unpacked')]);
    expect(await tensorsOf(join(root, 'unpacked/adapter_model.safetensors'))).toEqual(
      await tensorsOf(join(INITIAL, 'adapter_model.safetensors')),
    );
    expect(await readdir(join(root, 'data/.staging'))).toEqual([]);
  });

  test('is merged as one that was trained here', async () => {
    const { body } = await post(await tarOfFolder(join(REFERENCE, 'llama-tied/adapter_trained')));
    const response = await fetch(`${url}/adapters/${body.id}?weights=merged&format=safetensors`);
    expect(response.status).toBe(200);
    const file = join(root, 'merged.safetensors');
    await writeFile(file, Buffer.from(await response.arrayBuffer()));
    const ours = await tensorsOf(file);
    const theirs = await tensorsOf(join(REFERENCE, 'llama-tied/merged/model.safetensors'));
    expect([...ours.keys()]).toEqual([...theirs.keys()]);
    let greatest = 0;
    for (const [name, bytes] of theirs) {
      const expected = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
      const ourBytes = ours.get(name)!;
      const actual = new Float32Array(ourBytes.buffer, ourBytes.byteOffset, ourBytes.byteLength / 4);
      expected.forEach((value, i) => {
        greatest = Math.max(greatest, Math.abs(value - actual[i]!));
      });
    }
    expect(greatest).toBeLessThan(1e-5);
  });

  test('may lie in a folder, with files beside it that are left behind', async () => {
    await cp(INITIAL, join(root, 'my-adapter'), { recursive: true });
    await writeFile(join(root, 'my-adapter/README.md'), '# An adapter');
    await writeFile(join(root, 'my-adapter/optimizer.pt'), 'pickled');
    await mkdir(join(root, 'my-adapter/checkpoint-3'));
    await cp(join(INITIAL, 'adapter_config.json'), join(root, 'my-adapter/checkpoint-3/adapter_config.json'));
    const { status, body } = await post(await tarOfFolder(root, 'my-adapter'));
    expect(status).toBe(201);
    const names = (await adapters.files(body.id)).map(({ name }) => name);
    expect(names).toEqual(['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']);
  });

  test('names its base: by a path or a name of the hub, whose last part counts', async () => {
    for (const base of ['llama-tied', 'some-org/llama-tied', '/home/me/models/llama-tied/', 'C:\\models\\llama-tied']) {
      const { status, body } = await post(withConfig({ base_model_name_or_path: base }), '');
      expect([base, status]).toEqual([base, 201]);
      expect(body.base_model).toBe('llama-tied');
    }
    expect(await post(withConfig({ base_model_name_or_path: null }), '')).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', param: 'base_model' } },
    });
    expect(await post(withConfig({ base_model_name_or_path: '../..' }), '')).toMatchObject({
      status: 404,
      body: { error: { code: 'model_not_found' } },
    });
  });

  test('with patterns has one rank and one scale in its files, and its own in the manifest', async () => {
    const options = join(REFERENCE, '../lora-options/patterns');
    await cp(join(options, 'base'), join(root, 'models/options'), { recursive: true });
    const { status, body } = await post(await tarOfFolder(join(options, 'adapter_init')), '?base_model=options');
    expect(status).toBe(201);
    const own = await readPeftFolder(join(options, 'adapter_init'));
    const published = await readPeftFolder(adapters.folder(body.id));
    const { lora } = (await (await fetch(`${url}/adapters/${body.id}/manifest`)).json()) as AdapterManifest;
    expect(new Set([...published.modules.values()].map(({ rank }) => rank))).toEqual(new Set([8]));
    expect(new Set([...published.modules.values()].map(({ scale }) => scale)).size).toBe(1);
    for (const [name, { rank, scale }] of own.modules) {
      const manifestRank = lora.rank_pattern[name] ?? lora.r;
      expect(manifestRank).toBe(rank);
      expect((lora.alpha_pattern[name] ?? lora.alpha) / rank).toBeCloseTo(scale, 14);
    }
  });

  test('the same bytes twice are two adapters', async () => {
    const tar = tarOf(peftFiles());
    const [one, other] = [await post(tar), await post(tar)];
    expect([one.status, other.status]).toEqual([201, 201]);
    expect(one.body.id).not.toBe(other.body.id);
  });

  test('keeps nothing of its config that could do something', async () => {
    const auto_mapping = { base_model_class: 'X', parent_library: 'os' };
    const { body } = await post(withConfig({ auto_mapping, revision: 'evil' }));
    const kept = JSON.parse(await readFile(adapters.path(body.id, 'adapter_config.json'), 'utf8'));
    expect(kept).toMatchObject({ auto_mapping: null, revision: null, base_model_name_or_path: 'llama-tied' });
  });
});

describe('a hostile or broken tar', () => {
  const link = { name: 'adapter_config.json', type: '2', link: '/etc/passwd' };
  const huge = Buffer.concat([Buffer.from([0x80]), Buffer.alloc(3), Buffer.alloc(8, 0xff)]);
  const negative = Buffer.alloc(12, 0xff);
  const cases: [name: string, entries: () => RawEntry[]][] = [
    ['an absolute path', () => [...peftFiles(), { name: '/etc/cron.d/x', content: 'x' }]],
    ['a drive', () => [...peftFiles(), { name: 'C:/x', content: 'x' }]],
    ['a path that climbs', () => [...peftFiles(), { name: '../../x', content: 'x' }]],
    [
      'a path that climbs in the middle',
      () => [{ name: 'a/../../adapter_config.json', content: config }, peftFiles()[1]!],
    ],
    ['backslashes', () => [...peftFiles(), { name: '..\\..\\x', content: 'x' }]],
    ['a symbolic link in place of a file', () => [link, peftFiles()[1]!]],
    ['a hard link', () => [...peftFiles(), { name: 'x', type: '1', link: 'adapter_config.json' }]],
    ['a link without a target', () => [...peftFiles(), { name: 'x', type: '2' }]],
    ['a character device', () => [...peftFiles(), { name: 'x', type: '3' }]],
    ['a block device', () => [...peftFiles(), { name: 'x', type: '4' }]],
    ['a pipe', () => [...peftFiles(), { name: 'x', type: '6' }]],
    ['a sparse file', () => [...peftFiles(), { name: 'x', type: 'S', content: 'x' }]],
    ['a type that nobody knows', () => [...peftFiles(), { name: 'x', type: 'Z', content: 'x' }]],
    ['a config twice', () => [...peftFiles(), peftFiles()[0]!]],
    [
      'weights twice, in two folders',
      () => [...peftFiles(), { ...peftFiles()[1]!, name: 'b/adapter_model.safetensors' }],
    ],
    ['a size beyond the end', () => [peftFiles()[0]!, { ...peftFiles()[1]!, size: 2 ** 30 }]],
    ['a size of 2^63', () => [...peftFiles(), { name: 'x', size: huge }]],
    ['a negative size', () => [...peftFiles(), { name: 'x', size: negative }]],
    ['a size that ends too early', () => [peftFiles()[0]!, { ...peftFiles()[1]!, size: 700 }]],
    ['a config that is too large', () => [{ name: 'adapter_config.json', size: 5 * 2 ** 20 }, peftFiles()[1]!]],
    ['a wrong checksum', () => [peftFiles()[0]!, { ...peftFiles()[1]!, badChecksum: true }]],
    ['an absolute path in a pax header', () => [...peftFiles(), pax({ path: '/etc/x' }), { name: 'x', content: 'x' }]],
    [
      'a path that climbs in a pax header',
      () => [...peftFiles(), pax({ path: 'a/../../x' }), { name: 'x', content: 'x' }],
    ],
    [
      'a link made by a pax header',
      () => [...peftFiles(), pax({ linkpath: '/etc' }), { name: 'x', type: '2', link: 'y' }],
    ],
    ['a size in a pax header that is not true', () => [peftFiles()[0]!, pax({ size: '99999999999' }), peftFiles()[1]!]],
    [
      'a pax header that makes a file come twice',
      () => [...peftFiles(), pax({ path: 'adapter_config.json' }), { name: 'x', content: '{}' }],
    ],
    ['a pax header that is too long', () => [pax({ comment: 'x'.repeat(100_000) }), ...peftFiles()]],
    [
      'a long name that climbs',
      () => [...peftFiles(), { name: '././@LongLink', type: 'L', content: '../x\0' }, { name: 'x' }],
    ],
    [
      'more entries than are read',
      () => [...peftFiles(), ...Array.from({ length: 1100 }, (_, i) => ({ name: `f${i}` }))],
    ],
    ['no config', () => [peftFiles()[1]!]],
    ['no weights', () => [peftFiles()[0]!]],
    ['pickled weights', () => [peftFiles()[0]!, { name: 'adapter_model.bin', content: 'x' }]],
    ['files too deep', () => peftFiles().map((file) => ({ ...file, name: `a/b/${file.name}` }))],
    ['a folder with the name of the config', () => [{ name: 'adapter_config.json', type: '5' }, peftFiles()[1]!]],
    ['no entries', () => []],
  ];

  test.each(cases)('%s', async (name, entries) => {
    const begin = performance.now();
    const { status, body } = await post(tarOf(entries()));
    // A tar of nothing is two blocks of zeros, which have not even the mark of a tar.
    const expected = name === 'no entries' ? [415, 'unsupported_media_type'] : [422, 'invalid_adapter'];
    expect([status, body.error.code]).toEqual(expected);
    expect(body.error.message).not.toContain(root);
    expect(performance.now() - begin).toBeLessThan(4000);
    await nothingIsLeft();
  });

  test.each([
    ['gzip', () => gzipSync(tarOf(peftFiles()))],
    ['zip', () => Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(600)])],
    ['zstd', () => Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.alloc(600)])],
    ['text', () => Buffer.from('{"not": "a tar"}')],
    ['nothing', () => Buffer.alloc(0)],
    ['zeros', () => Buffer.alloc(2048)],
  ])('%s is 415', async (_, bytes) => {
    expect(await post(bytes())).toMatchObject({ status: 415, body: { error: { code: 'unsupported_media_type' } } });
    await nothingIsLeft();
  });

  test('another content type or encoding is 415', async () => {
    for (const headers of [{ 'content-type': 'application/json' }, { 'content-encoding': 'gzip' }]) {
      expect(await post(tarOf(peftFiles()), '?base_model=llama-tied', headers as Record<string, string>)).toMatchObject(
        {
          status: 415,
        },
      );
    }
    await nothingIsLeft();
  });

  test('cut off anywhere, it is refused or hears that it is not whole', async () => {
    const tar = tarOf(peftFiles());
    for (const bytes of [200, 300, 512, 700, 1024, 3000, 9000]) {
      const { status, body } = await post(tar.subarray(0, bytes));
      expect([bytes, status, body.error.code]).toEqual(
        // The mark of a tar is in bytes 257 to 261.
        bytes < 262 ? [bytes, 415, 'unsupported_media_type'] : [bytes, 422, 'invalid_adapter'],
      );
    }
    await nothingIsLeft();
  });

  test('larger than is taken is 413, whether it says so or not', async () => {
    const large = tarOf([...peftFiles(), { name: 'x', content: Buffer.alloc(MAX_BYTES) }]);
    expect(await post(large)).toMatchObject({ status: 413, body: { error: { code: 'body_too_large' } } });
    async function* pieces() {
      for (let at = 0; at < large.length; at += 65_536) yield large.subarray(at, at + 65_536);
    }
    const response = await fetch(`${url}/adapters?base_model=llama-tied`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-tar' },
      body: ReadableStream.from(pieces()),
      duplex: 'half',
    } as RequestInit);
    expect(response.status).toBe(413);
    await response.arrayBuffer();
    await nothingIsLeft();
  });

  test('a sender that goes away leaves nothing', async () => {
    const gone = new AbortController();
    const tar = tarOf(peftFiles());
    async function* half() {
      yield tar.subarray(0, 5000);
      setTimeout(() => gone.abort(), 100);
      await new Promise(() => {});
    }
    const sending = fetch(`${url}/adapters?base_model=llama-tied`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-tar' },
      body: ReadableStream.from(half()),
      duplex: 'half',
      signal: gone.signal,
    } as RequestInit);
    await expect(sending).rejects.toThrow();
    await expect.poll(() => readdir(join(root, 'data/.staging'))).toEqual([]);
    await nothingIsLeft();
  });
});

describe('an adapter that does not fit', () => {
  test.each([
    [{ use_dora: true }, 'use_dora'],
    [{ peft_type: 'LOHA' }, 'peft_type'],
    [{ bias: 'all' }, 'bias'],
    [{ modules_to_save: ['lm_head'] }, 'modules_to_save'],
    [{ init_lora_weights: 'pissa' }, 'init_lora_weights'],
    [{ r: 1000 }, 'rank 4'],
    [{ lora_alpha: 0 }, 'scale'],
    [{ rank_pattern: { '(?=x)': 3 } }, 'rank_pattern'],
    [{ alpha_pattern: { '((((a{9}){9}){9}){2})*': 3 } }, 'alpha_pattern'],
  ])('%j', async (change, named) => {
    const { status, body } = await post(withConfig(change));
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toContain(named);
    await nothingIsLeft();
  });

  async function changedWeights(
    change: (
      name: string,
      values: Float32Array,
      shape: number[],
    ) => { name?: string; shape?: number[]; values?: Float32Array },
  ): Promise<Buffer> {
    const opened = await openSafetensors(join(INITIAL, 'adapter_model.safetensors'));
    const tensors = [];
    for (const { name, shape } of opened.tensors.values()) {
      const values = new Float32Array((await opened.read(name)).slice().buffer);
      const changed = { name, shape: [...shape], values, ...change(name, values, [...shape]) };
      const data = new Uint8Array(changed.values.buffer);
      tensors.push({ name: changed.name, shape: changed.shape, dtype: 'F32' as const, data });
    }
    await opened.close();
    await writeSafetensors(join(root, 'changed.safetensors'), tensors);
    return await readFile(join(root, 'changed.safetensors'));
  }

  test.each([
    [
      'a NaN',
      (_: string, values: Float32Array) => ({ values: values.map((value, i) => (i === 3 ? Number.NaN : value)) }),
      'not finite',
    ],
    [
      'an infinity',
      (_: string, values: Float32Array) => ({ values: values.map((value, i) => (i === 0 ? Infinity : value)) }),
      'not finite',
    ],
    ['a module that the base has not', (name: string) => ({ name: name.replace('layers.0', 'layers.9') }), 'layers.9'],
    [
      'its head, which is its embedding',
      (name: string) => ({ name: name.replace('model.layers.0.self_attn.q_proj', 'lm_head') }),
      'embedding',
    ],
    [
      'other sizes',
      (name: string, values: Float32Array, [rank, width]: number[]) =>
        name.endsWith('lora_A.weight')
          ? { shape: [rank!, width! + 1], values: new Float32Array(rank! * (width! + 1)) }
          : { values },
      'layer of',
    ],
  ] as const)('%s', async (_, change, named) => {
    const content = await changedWeights(change as Parameters<typeof changedWeights>[0]);
    const { status, body } = await post(tarOf([peftFiles()[0]!, { name: 'adapter_model.safetensors', content }]));
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toContain(named);
    await nothingIsLeft();
  });

  test('bytes that are no safetensors', async () => {
    for (const content of ['', 'x', Buffer.alloc(64, 0xff), gzipSync(weights), weights.subarray(0, -1)]) {
      const { status, body } = await post(tarOf([peftFiles()[0]!, { name: 'adapter_model.safetensors', content }]));
      expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    }
    await nothingIsLeft();
  });

  test('queries that are not right', async () => {
    const tar = tarOf(peftFiles());
    expect(await post(tar, '?base_model=none')).toMatchObject({
      status: 404,
      body: { error: { code: 'model_not_found' } },
    });
    for (const query of ['?base_model=..%2f..', '?name=', '?nmae=x', `?name=${'x'.repeat(200)}`]) {
      expect([query, (await post(tar, query)).status]).toEqual([query, 400]);
    }
    await nothingIsLeft();
  });
});

describe('the process that checks', () => {
  test('dies: an error of ours, and nothing is left', async () => {
    await listen(faultyProgram('crash'));
    expect(await post(tarOf(peftFiles()))).toMatchObject({ status: 500, body: { error: { code: 'import_crashed' } } });
    await nothingIsLeft();
  });

  test('takes too long: it is ended', async () => {
    await listen(faultyProgram('hang'), 500);
    expect(await post(tarOf(peftFiles()))).toMatchObject({ status: 504, body: { error: { code: 'timeout' } } });
    await nothingIsLeft();
  });
});
