import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ADAPTER_FILES, type AdapterManifest, ProductError } from '@lorasmith/contracts';
import { type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readManifest, readManifestOfFolder, writeManifest } from './manifest.js';

let root: string;
let adapters: LocalBundleStore;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-adapters-'));
  adapters = await openBundleStore({ root, kind: 'adapters' });
});
afterEach(() => rm(root, { recursive: true, force: true }));

const id = `ad_${'0'.repeat(24)}`;
const owner = `key_${'1'.repeat(24)}`;
const sha256 = 'a'.repeat(64);
const imported: Omit<AdapterManifest, 'version' | 'object' | 'created_at'> = {
  id,
  owner,
  name: null,
  origin: { kind: 'imported' },
  base_model: {
    name: 'a-model',
    family: 'llama',
    weights_sha256: sha256,
    architecture_sha256: sha256,
    quantization: null,
  },
  lora: { r: 4, alpha: 8, modules: ['q_proj'], rank_pattern: {}, alpha_pattern: {} },
  versions: { node: '20' },
  files: [{ name: ADAPTER_FILES.config, bytes: 1, sha256 }],
};

async function publish(content: unknown = undefined, under = id) {
  const staging = await adapters.stage();
  if (content === undefined) await writeManifest(staging, imported);
  else await staging.write(ADAPTER_FILES.manifest, [Buffer.from(JSON.stringify(content))]);
  await adapters.publish(staging, under);
}
const read = (options = {}) => readManifest(adapters, id, options);

test('a manifest is read as it was written, from the store and from a folder', async () => {
  await publish();
  const manifest = await read();
  const card = expect.objectContaining({ name: ADAPTER_FILES.card });
  expect(manifest).toEqual({
    ...imported,
    files: [...imported.files, card],
    version: 1,
    object: 'adapter',
    created_at: expect.any(String),
  });
  expect(await readManifestOfFolder(adapters.folder(id))).toEqual(manifest);
});

test('a manifest that no reader would accept is not written', async () => {
  const staging = await adapters.stage();
  const wrong = { ...imported, base_model: { ...imported.base_model, weights_sha256: 'no digest' } };
  const message = expect.stringContaining('/base_model/weights_sha256');
  await expect(writeManifest(staging, wrong)).rejects.toMatchObject({ code: 'internal_error', message });
  await adapters.publish(staging, id);
  expect(await adapters.files(id)).toEqual([]);
});

test.each([
  ['that lacks fields', { version: 1, id }, 'invalid_adapter', 'is not a manifest'],
  ['of another adapter', { ...imported, id: `ad_${'2'.repeat(24)}` }, 'invalid_adapter', 'is the manifest of'],
  ['without a date', { ...imported, created_at: 'some day' }, 'invalid_adapter', 'is not a date'],
  ['of a later version', { ...imported, version: 2 }, 'unsupported_version', 'version 2'],
  ['that is no object', null, 'invalid_adapter', 'is not a manifest'],
])('a manifest %s is refused', async (_, content, code, message) => {
  const complete = { version: 1, object: 'adapter', created_at: '2026-01-01T00:00:00Z' };
  await publish(content !== null && 'origin' in content ? { ...complete, ...content } : content);
  await expect(read()).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
});

test('a manifest that is too large or missing is refused, of the store and of a folder', async () => {
  await publish();
  await truncate(adapters.path(id, ADAPTER_FILES.manifest), 2 ** 24 + 1);
  const broken = { code: 'invalid_adapter', message: expect.stringContaining(ADAPTER_FILES.manifest) };
  await expect(read()).rejects.toMatchObject(broken);
  await expect(readManifestOfFolder(adapters.folder(id))).rejects.toMatchObject(broken);
  await rm(adapters.path(id, ADAPTER_FILES.manifest));
  await expect(read()).rejects.toMatchObject(broken);
  // A plain PEFT folder has none.
  expect(await readManifestOfFolder(adapters.folder(id))).toBeNull();
});

test('hides a broken adapter from callers without access', async () => {
  const isAllowed = (found: unknown) => found === owner;
  await expect(read({ isAllowed })).rejects.toMatchObject({ code: 'adapter_not_found' });
  await publish({ owner });
  await expect(read({ isAllowed: () => false })).rejects.toMatchObject({ code: 'adapter_not_found' });
  await expect(read({ isAllowed })).rejects.toMatchObject({ code: 'invalid_adapter' });
});

test('a store that cannot be reached is not taken for a broken adapter', async () => {
  const unavailable = new ProductError('storage_unavailable', 'The store does not answer.');
  const store = { has: () => Promise.reject(unavailable), readJson: () => Promise.reject(unavailable) };
  await expect(readManifest(store, id)).rejects.toBe(unavailable);
});

test.each(['../adapters', 'ad_', ''])('there is no adapter %j', async (name) => {
  await expect(readManifest(adapters, name)).rejects.toMatchObject({ code: 'adapter_not_found' });
});
