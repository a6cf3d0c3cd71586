import { createHash } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WeightDigests } from '../base-digests.js';
import { type ModelFolder, readModelFolder } from '../model-folder.js';

const base = new URL('../../../../test/fixtures/reference/llama-tied/base', import.meta.url).pathname;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'digest-'));
});
afterAll(() => rm(root, { recursive: true }));

async function copy(): Promise<ModelFolder> {
  const folder = join(await mkdtemp(join(root, 'copy-')), 'Model');
  await cp(base, folder, { recursive: true });
  return await readModelFolder(folder);
}

const sha256 = async (path: string) =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

/** Digests that are remembered in a folder of their own, in a minute from now: the files of a test have settled by then. */
async function digestsLater(): Promise<{ folder: string; digests: WeightDigests }> {
  const folder = join(await mkdtemp(join(root, 'digests-')), 'weight-digests');
  return { folder, digests: new WeightDigests(folder, { now: () => Date.now() + 60_000 }) };
}

test('the digest of one file is the sha256 of the file', async () => {
  const model = await copy();
  expect(await new WeightDigests(null).compute(model)).toBe(await sha256(model.files[0]!.path));
});

test('the digest of several files is the sha256 of the output of sha256sum', async () => {
  const { path: folder } = await copy();
  const source = await openSafetensors(join(folder, 'model.safetensors'));
  const weight_map: Record<string, string> = {};
  for (const [part, name] of [...source.tensors.keys()].entries()) weight_map[name] = `part-${part % 2}.safetensors`;
  for (const part of [0, 1]) {
    const tensors = [...source.tensors.values()].filter(({ name }) => weight_map[name] === `part-${part}.safetensors`);
    await writeSafetensors(
      join(folder, `part-${part}.safetensors`),
      tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape, data: () => source.read(name) })),
    );
  }
  await source.close();
  await rm(join(folder, 'model.safetensors'));
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
  const list = `${await sha256(join(folder, 'part-0.safetensors'))}  part-0.safetensors\n${await sha256(join(folder, 'part-1.safetensors'))}  part-1.safetensors\n`;
  const digest = await new WeightDigests(null).compute(await readModelFolder(folder));
  expect(digest).toBe(createHash('sha256').update(list).digest('hex'));
});

test('the digest is remembered for every process that shares the folder, and nothing is written beside the weights', async () => {
  const { folder, digests } = await digestsLater();
  const model = await copy();
  const beside = await readdir(model.path);
  expect(await digests.known(model)).toBeNull();
  const digest = await digests.compute(model);
  expect(await new WeightDigests(folder).known(model)).toBe(digest);
  expect(await new WeightDigests(null).known(model)).toBeNull();
  expect(await readdir(model.path)).toEqual(beside);
  const [entry, ...others] = await readdir(folder);
  expect(others).toEqual([]);
  await writeFile(join(folder, entry!), 'a'.repeat(64));
  expect(await digests.compute(model)).toBe('a'.repeat(64));
});

test('the digest is computed again after the file has changed, even if its size and modification time are restored', async () => {
  const { digests } = await digestsLater();
  const model = await copy();
  const { path } = model.files[0]!;
  const before = await digests.compute(model);
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(path, bytes);
  await utimes(path, atime, mtime);
  expect(await digests.known(model)).toBeNull();
  const after = await digests.compute(model);
  expect(after).not.toBe(before);
  expect(after).toBe(await sha256(path));
});

test('the digest of a file that was only just written is not remembered: it could change again without a new time', async () => {
  const { folder } = await digestsLater();
  const model = await copy();
  const digests = new WeightDigests(folder);
  await digests.compute(model);
  expect(await digests.known(model)).toBeNull();
});

test('an entry that is no digest is ignored, and a folder that cannot be written no error', async () => {
  const { folder, digests } = await digestsLater();
  const model = await copy();
  const expected = await digests.compute(model);
  const [entry] = await readdir(folder);
  for (const text of ['', 'null', `${expected} `, expected.toUpperCase()]) {
    await writeFile(join(folder, entry!), text);
    expect(await digests.compute(model)).toBe(expected);
  }
  const later = { now: () => Date.now() + 60_000 };
  const unwritable = new WeightDigests(join(model.files[0]!.path, 'not-a-folder'), later);
  expect(await unwritable.compute(model)).toBe(expected);
});

test('the entries that were used longest ago are removed', async () => {
  const { folder, digests } = await digestsLater();
  const model = await copy();
  await digests.compute(model);
  const [used] = await readdir(folder);
  for (const [number, name] of ['b', 'c', 'd'].entries()) {
    await writeFile(join(folder, name.repeat(64)), 'a'.repeat(64));
    await utimes(join(folder, name.repeat(64)), new Date(), new Date(number * 1_000));
  }
  await new WeightDigests(folder, { maxEntries: 3, now: () => Date.now() + 60_000 }).compute(await copy());
  const left = await readdir(folder);
  expect(left).toHaveLength(3);
  expect(left).toContain(used);
  expect(left).toContain('d'.repeat(64));
});
