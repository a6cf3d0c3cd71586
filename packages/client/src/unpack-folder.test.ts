import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, Header } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { unpackFolder } from './unpack-folder.js';

let folder: string;
let tarFile: string;
let target: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-unpack-'));
  tarFile = join(folder, 'a.tar');
  target = join(folder, 'adapter');
  await mkdir(join(folder, 'source'));
});
afterEach(() => rm(folder, { recursive: true }));

/** A tar with one empty entry and an unchecked header. */
async function writeEntry(path: string, type: 'File' | 'SymbolicLink' | 'Link' | 'CharacterDevice', linkpath = '') {
  const header = new Header({ path, type, linkpath, mode: 0o644, size: 0, mtime: new Date(0) });
  const block = Buffer.alloc(512);
  header.encode(block, 0);
  await writeFile(tarFile, Buffer.concat([block, Buffer.alloc(1024)]));
}

describe('unpackFolder', () => {
  it('unpacks files and folders into the destination', async () => {
    await mkdir(join(folder, 'source', 'sub'));
    await writeFile(join(folder, 'source', 'adapter_config.json'), '{}');
    await writeFile(join(folder, 'source', 'sub', 'weights'), 'abc');
    await create({ file: tarFile, cwd: join(folder, 'source') }, ['.']);
    await unpackFolder(tarFile, target);
    expect((await readdir(target)).sort()).toEqual(['adapter_config.json', 'sub']);
    expect(await readFile(join(target, 'sub', 'weights'), 'utf8')).toBe('abc');
    expect((await readdir(folder)).sort()).toEqual(['a.tar', 'adapter', 'source']);
  });

  it('refuses an existing destination, and replaces it on request', async () => {
    await writeFile(join(folder, 'source', 'new'), '');
    await create({ file: tarFile, cwd: join(folder, 'source') }, ['new']);
    await mkdir(target);
    await writeFile(join(target, 'old'), '');
    await expect(unpackFolder(tarFile, target)).rejects.toMatchObject({ code: 'conflict' });
    expect(await readdir(target)).toEqual(['old']);
    await unpackFolder(tarFile, target, { overwrite: true });
    expect(await readdir(target)).toEqual(['new']);
  });

  it.each([
    ['../outside', 'File'],
    ['sub/../../outside', 'File'],
    ['/tmp/lorasmith-outside', 'File'],
    ['device', 'CharacterDevice'],
    ['link', 'SymbolicLink'],
    ['hard', 'Link'],
  ] as const)('refuses %s (%s) and leaves nothing', async (path, type) => {
    await writeEntry(path, type, type.endsWith('Link') ? '../outside' : '');
    await expect(unpackFolder(tarFile, target)).rejects.toMatchObject({ code: 'invalid_adapter' });
    expect((await readdir(folder)).sort()).toEqual(['a.tar', 'source']);
  });

  it('refuses a link among ordinary files', async () => {
    await writeFile(join(folder, 'source', 'a'), '');
    await symlink('/etc/passwd', join(folder, 'source', 'b'));
    await create({ file: tarFile, cwd: join(folder, 'source') }, ['a', 'b']);
    await expect(unpackFolder(tarFile, target)).rejects.toThrow(/contains b \(SymbolicLink\)/);
  });

  it('refuses a compressed tar, a truncated one, and other files', async () => {
    await writeFile(join(folder, 'source', 'a'), 'x'.repeat(5000));
    const unpacks = () => unpackFolder(tarFile, target);
    await create({ file: tarFile, cwd: join(folder, 'source'), gzip: true }, ['a']);
    await expect(unpacks()).rejects.toThrow(/not a tar/);
    await create({ file: tarFile, cwd: join(folder, 'source') }, ['a']);
    await writeFile(tarFile, (await readFile(tarFile)).subarray(0, 3000));
    await expect(unpacks()).rejects.toMatchObject({ code: 'invalid_adapter' });
    await writeFile(tarFile, '{"error": {}}');
    await expect(unpacks()).rejects.toThrow(/not a tar/);
    expect((await readdir(folder)).sort()).toEqual(['a.tar', 'source']);
  });

  it('leaves no folder that the check refuses', async () => {
    await writeFile(join(folder, 'source', 'a'), '');
    await create({ file: tarFile, cwd: join(folder, 'source') }, ['a']);
    const check = async (unpacked: string) => {
      expect(await readdir(unpacked)).toEqual(['a']);
      throw new Error('refused');
    };
    await expect(unpackFolder(tarFile, target, { check })).rejects.toThrow('refused');
    expect((await readdir(folder)).sort()).toEqual(['a.tar', 'source']);
  });
});
