import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { asStorageError, writeFileAtomic } from './index.js';

test('a file is replaced atomically and no temporary file stays', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-atomic-'));
  const file = path.join(folder, 'state.json');
  await writeFile(file, 'old');
  await writeFileAtomic(file, 'new');
  expect(await readFile(file, 'utf8')).toBe('new');

  // Onto a folder: the rename fails, after the temporary file was written.
  await expect(writeFileAtomic(folder, 'x')).rejects.toThrow();
  expect(await readdir(folder)).toEqual(['state.json']);
  expect((await readdir(tmpdir())).filter((name) => name.startsWith(path.basename(folder)))).toHaveLength(1);
  await rm(folder, { recursive: true });
});

test('a full disk is storage_full, any other error stays what it is', () => {
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  expect(asStorageError(full)).toMatchObject({ code: 'storage_full', cause: full });
  const denied = Object.assign(new Error('permission denied'), { code: 'EACCES' });
  expect(asStorageError(denied)).toBe(denied);
});
