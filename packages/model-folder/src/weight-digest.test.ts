import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSafetensors, writeSafetensors } from '@lorasmith/safetensors';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readModelFolder } from './model-folder.js';
import { digestWeights } from './weight-digest.js';

const base = new URL('../../../test/fixtures/reference/llama-tied/base', import.meta.url).pathname;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'digest-'));
});
afterAll(() => rm(root, { recursive: true }));

async function copy(): Promise<string> {
  const folder = join(await mkdtemp(join(root, 'copy-')), 'Model');
  // Without the sidecar file that another test may have left in the reference folder.
  await cp(base, folder, { recursive: true, filter: (path) => !path.endsWith('.lorasmith-digest.json') });
  return folder;
}
const sha256 = async (path: string) =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
const sidecar = (folder: string) => join(folder, '.lorasmith-digest.json');

test('of one file is the sha256 of the file', async () => {
  const folder = await copy();
  const expected = await sha256(join(folder, 'model.safetensors'));
  expect(await digestWeights(await readModelFolder(folder))).toBe(expected);
});

test('of several files is the sha256 of the output of sha256sum', async () => {
  const folder = await copy();
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
  expect(await digestWeights(await readModelFolder(folder))).toBe(createHash('sha256').update(list).digest('hex'));
});

test('is read from the sidecar file the next time', async () => {
  const folder = await copy();
  const model = await readModelFolder(folder);
  await digestWeights(model);
  const noted = JSON.parse(await readFile(sidecar(folder), 'utf8'));
  await writeFile(sidecar(folder), JSON.stringify([{ ...noted[0], sha256: 'a'.repeat(64) }]));
  expect(await digestWeights(model)).toBe('a'.repeat(64));
});

test('is computed again after the file has changed, even if its size and modification time are restored', async () => {
  const folder = await copy();
  const path = join(folder, 'model.safetensors');
  const model = await readModelFolder(folder);
  const before = await digestWeights(model);
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(path, bytes);
  await utimes(path, atime, mtime);
  const after = await digestWeights(model);
  expect(after).not.toBe(before);
  expect(after).toBe(await sha256(path));
});

test('an invalid sidecar file is ignored', async () => {
  const folder = await copy();
  const model = await readModelFolder(folder);
  const expected = await digestWeights(model);
  for (const text of [
    '{',
    '[]',
    '[null]',
    '[{"name":"model.safetensors","state":1}]',
    `${await readFile(sidecar(folder))}x`,
  ]) {
    await writeFile(sidecar(folder), text);
    expect(await digestWeights(model)).toBe(expected);
  }
});

test('is computed even if the sidecar file cannot be written, and no temporary file remains', async () => {
  const folder = await copy();
  const expected = await sha256(join(folder, 'model.safetensors'));
  await mkdir(sidecar(folder));
  const before = await readdir(folder);
  expect(await digestWeights(await readModelFolder(folder))).toBe(expected);
  expect(await readdir(folder)).toEqual(before);
});
