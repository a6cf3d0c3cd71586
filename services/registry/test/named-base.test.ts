import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { AdapterFile, AdapterManifest } from '@lorasmith/contracts';
import { ORIGIN_FILE } from '@lorasmith/model-folder';
import type { FileAnswer } from '@lorasmith/service-kit';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  adapters,
  INITIAL,
  peftFiles,
  post,
  root,
  tarOfFolder,
  url,
  useImportingRegistry,
} from './importing-registry.js';
import { tarOf } from './tar-bytes.js';

const run = promisify(execFile);
const REPO = 'some-org/llama-tied';
const COMMIT = 'c'.repeat(40);
const NAMED = `base_model=${encodeURIComponent(REPO)}`;

useImportingRegistry();

let id: string;
beforeEach(async () => {
  id = (await post(await tarOfFolder(INITIAL))).body.id;
});

const get = (path: string, headers: Record<string, string> = {}) => fetch(`${url}/adapters/${path}`, { headers });
const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer());
const sha256Of = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const configOf = async (path: string) => JSON.parse((await bytesOf(await get(path))).toString());

/** The files of a tar, by their names. */
async function unpack(tar: Buffer): Promise<Map<string, Buffer>> {
  const folder = join(root, sha256Of(tar));
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}.tar`, tar);
  await run('tar', ['-xf', `${folder}.tar`, '-C', folder]);
  const names = await readdir(folder);
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as [string, Buffer])),
  );
}

describe('a download that names its base model', () => {
  test('has the repository in its config, its card and the digests of its manifest, and nothing else is changed', async () => {
    const [plain, named] = await Promise.all(
      [id, `${id}?${NAMED}`].map(async (path) => unpack(await bytesOf(await get(path)))),
    );
    expect([...named!.keys()].sort()).toEqual([...plain!.keys()].sort());
    const config = JSON.parse(named!.get('adapter_config.json')!.toString());
    const before = JSON.parse(plain!.get('adapter_config.json')!.toString());
    expect(before.base_model_name_or_path).toBe('llama-tied');
    expect(config).toEqual({ ...before, base_model_name_or_path: REPO, revision: null });
    const card = named!.get('README.md')!.toString();
    expect(card).toContain(`base_model: "${REPO}"`);
    expect(card).toContain(`vllm serve ${REPO} --enable-lora`);
    expect(named!.get('adapter_model.safetensors')).toEqual(plain!.get('adapter_model.safetensors'));
    const manifest = JSON.parse(named!.get('manifest.json')!.toString()) as AdapterManifest;
    for (const { name, bytes, sha256 } of manifest.files) {
      const content = named!.get(name)!;
      expect([name, content.byteLength, sha256Of(content)]).toEqual([name, bytes, sha256]);
    }
    expect({ ...manifest, files: [] }).toEqual({ ...JSON.parse(plain!.get('manifest.json')!.toString()), files: [] });
    // What is stored is as it was.
    expect((await configOf(`${id}/files/adapter_config.json`)).base_model_name_or_path).toBe('llama-tied');
  });

  test('has an ETag, a length and ranges of its own, for each name the same', async () => {
    const plain = await get(id);
    await plain.arrayBuffer();
    const first = await get(`${id}?${NAMED}`);
    const bytes = await bytesOf(first);
    expect(first.headers.get('content-length')).toBe(String(bytes.byteLength));
    const etag = first.headers.get('etag')!;
    expect(etag).not.toBe(plain.headers.get('etag'));
    expect((await get(`${id}?${NAMED}`, { 'if-none-match': etag })).status).toBe(304);
    const other = await get(`${id}?base_model=some-org/another`);
    expect([other.headers.get('etag') === etag, (await bytesOf(other)).equals(bytes)]).toEqual([false, false]);
    for (const start of [0, 511, 513, 700, bytes.byteLength - 5]) {
      const range = await get(`${id}?${NAMED}`, { range: `bytes=${start}-${start + 400}`, 'if-range': etag });
      expect([range.status, (await bytesOf(range)).equals(bytes.subarray(start, start + 401))]).toEqual([206, true]);
    }
  });

  test('lists its files with the digests with which they are downloaded, whole and in parts', async () => {
    const { data } = (await (await get(`${id}/files?${NAMED}`)).json()) as { data: AdapterFile[] };
    expect(data.map(({ name }) => name)).toContain('README.md');
    for (const { name, bytes, sha256 } of data) {
      const response = await get(`${id}/files/${name}?${NAMED}`);
      expect(response.headers.get('etag')).toBe(`"${sha256}"`);
      const content = await bytesOf(response);
      expect([name, content.byteLength, sha256Of(content)]).toEqual([name, bytes, sha256]);
      const part = await get(`${id}/files/${name}?${NAMED}`, { range: 'bytes=3-40' });
      expect(await bytesOf(part)).toEqual(content.subarray(3, 41));
    }
  });

  test('an api with the same data folder receives the texts that differ, and the locations of the other files', async () => {
    const bytes = await bytesOf(await get(`${id}?${NAMED}`));
    const response = await get(`${id}?${NAMED}`, { 'x-lorasmith-data-folder': 'a token' });
    expect(response.headers.get('x-lorasmith-files')).toBe('1');
    const { segments } = JSON.parse((await response.text()).split('\n')[0]!) as FileAnswer;
    const parts = segments.map(async (part) => {
      if ('content' in part) return Buffer.from(part.content, 'base64');
      expect(part.file).toMatch(/adapter_model\.safetensors$/);
      return (await readFile(join(root, 'data', part.file))).subarray(part.start, part.end + 1);
    });
    expect(Buffer.concat(await Promise.all(parts))).toEqual(bytes);
  });

  test('of a merged model and of a GGUF file has the repository in the card', async () => {
    for (const form of ['weights=merged', 'format=gguf']) {
      const { data } = (await (await get(`${id}/files?${form}&${NAMED}`)).json()) as { data: AdapterFile[] };
      const plain = (await (await get(`${id}/files?${form}`)).json()) as { data: AdapterFile[] };
      const changed = data.filter(({ name, sha256 }) => plain.data.find((one) => one.name === name)?.sha256 !== sha256);
      expect([form, changed.map(({ name }) => name)]).toEqual([form, ['README.md']]);
      const card = (await bytesOf(await get(`${id}/files/README.md?${form}&${NAMED}`))).toString();
      expect(card).toContain(`base_model: "${REPO}"`);
      expect(sha256Of(Buffer.from(card))).toBe(changed[0]!.sha256);
    }
  });

  test('keeps the commit of the repository that the base model was pulled from, and of no other', async () => {
    await cp(join(root, 'models/llama-tied'), join(root, 'models/pulled'), { recursive: true });
    const origin = { repo: REPO, revision: 'main', commit: COMMIT };
    await writeFile(join(root, 'models/pulled', ORIGIN_FILE), JSON.stringify(origin));
    const pulled = (await post(tarOf(peftFiles()), '?base_model=pulled')).body.id;
    const config = `${pulled}/files/adapter_config.json`;
    const stored = await configOf(config);
    expect(stored).toMatchObject({ base_model_name_or_path: REPO, revision: COMMIT });
    expect(await configOf(`${config}?${NAMED}`)).toEqual(stored);
    expect(await configOf(`${config}?base_model=some-org/fork`)).toEqual({
      ...stored,
      base_model_name_or_path: 'some-org/fork',
      revision: null,
    });
  });

  test('is imported again: the last part of the repository names the base model', async () => {
    const tar = await bytesOf(await get(`${id}?${NAMED}`));
    const { status, body } = await post(tar, '');
    expect([status, body.base_model]).toEqual([201, 'llama-tied']);
    expect(body.id).not.toBe(id);
    expect(await adapters.has(body.id)).toBe(true);
  });

  test('is refused for what is no repository of the hub', async () => {
    const names = ['llama-tied', '/some-org/x', 'some-org/', '../..', 'a/b/c', `a/${'b'.repeat(97)}`, 'a/b%0a', ''];
    for (const name of names) {
      for (const path of [id, `${id}/files`, `${id}/files/adapter_config.json`]) {
        const response = await get(`${path}?base_model=${name}`);
        const { error } = (await response.json()) as { error: { code: string; param: string } };
        expect([name, response.status, error.code, error.param]).toEqual([name, 400, 'invalid_request', 'base_model']);
      }
    }
  });
});
