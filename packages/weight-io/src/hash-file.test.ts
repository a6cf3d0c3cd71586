import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { hashFile } from './hash-file.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hash-file-'));
});
afterEach(() => rm(folder, { recursive: true }));

test.each([0, 3, 2 ** 20, 2 ** 20 + 5])('a file of %d bytes', async (bytes) => {
  const content = Buffer.alloc(bytes, 'lorasmith');
  await writeFile(join(folder, 'file'), content);
  expect(await hashFile(join(folder, 'file'))).toBe(createHash('sha256').update(content).digest('hex'));
});

test('what cannot be read is an error of the system', async () => {
  await expect(hashFile(join(folder, 'missing'))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(hashFile(folder)).rejects.toMatchObject({ code: 'EISDIR', message: expect.stringContaining('read') });
});
