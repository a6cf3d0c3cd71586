import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { publishFolder } from '../../scripts/setup/publish-folder.mjs';

let cache: string;
let folder: string;

beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'lorasmith-cache-'));
  folder = path.join(cache, 'library');
});

afterEach(async () => {
  await rm(cache, { recursive: true, force: true });
});

const fill = async (partial: string) => await writeFile(path.join(partial, 'whole'), 'whole');

test('a folder is filled once', async () => {
  expect(await publishFolder(folder, fill)).toBe(true);
  expect(await publishFolder(folder, () => Promise.reject(new Error('not again')))).toBe(false);
  expect(await readFile(path.join(folder, 'whole'), 'utf8')).toBe('whole');
});

test('a failure leaves nothing behind', async () => {
  const failing = async (partial: string) => {
    await fill(partial);
    throw new Error('the download broke off');
  };
  await expect(publishFolder(folder, failing)).rejects.toThrow('the download broke off');
  expect(await readdir(cache)).toEqual([]);
});

test('a killed run leaves no folder of that name, and the next run removes its partial folder', async () => {
  const program = fileURLToPath(new URL('fixtures/fill-forever.mjs', import.meta.url));
  const child = spawn(process.execPath, [program, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(await readdir(cache)).toEqual([expect.stringMatching(/^\.partial-/)]);

  expect(await publishFolder(folder, fill)).toBe(true);
  expect(await readdir(cache)).toEqual(['library']);
  expect(await readdir(folder)).toEqual(['whole']);
});

test('of two concurrent runs, the later one uses the folder that the earlier one published', async () => {
  const overtaken = await publishFolder(folder, async (partial) => {
    await fill(partial);
    // The other run publishes while this one is still filling its folder.
    await mkdir(folder);
    await writeFile(path.join(folder, 'whole'), 'of the other run');
  });
  expect(overtaken).toBe(false);
  expect(await readdir(cache)).toEqual(['library']);
  expect(await readFile(path.join(folder, 'whole'), 'utf8')).toBe('of the other run');
});

test('a partial folder that a killed run with the same process id left, as in a container, is removed; own ones are not', async () => {
  await mkdir(path.join(cache, `.partial-${process.pid}-1`));
  const other = path.join(cache, 'other');
  const published = await publishFolder(folder, async (partial) => {
    await fill(partial);
    await publishFolder(other, fill);
  });
  expect(published).toBe(true);
  expect((await readdir(cache)).sort()).toEqual(['library', 'other']);
});
