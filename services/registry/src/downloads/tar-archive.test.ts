import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { list } from 'tar';
import { expect, test } from 'vitest';
import { layOutTar, type TarEntry } from './tar-archive.js';

const run = promisify(execFile);
const MTIME = new Date('2026-05-04T03:02:01.500Z');

function entryOf(name: string, content: Buffer): TarEntry {
  return {
    name,
    bytes: content.byteLength,
    open: async ({ start, end }) => Readable.from([content.subarray(start, end + 1)]),
  };
}

const LONG_NAME = `${'x'.repeat(150)}.json`;
const FILES: Record<string, Buffer> = {
  'b.bin': Buffer.from(Array.from({ length: 1300 }, (_, index) => index % 251)),
  'a.json': Buffer.from('{}'),
  'block.bin': Buffer.alloc(1024, 7),
  'empty.txt': Buffer.alloc(0),
  [LONG_NAME]: Buffer.from('long'),
};
const archive = () =>
  layOutTar(
    Object.entries(FILES).map(([name, content]) => entryOf(name, content)),
    MTIME,
  );
const whole = () =>
  archive()
    .open({ start: 0, end: archive().totalBytes - 1 })
    .then(buffer);

test('GNU tar unpacks it to the same files', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tar-archive-'));
  try {
    await writeFile(join(folder, 'all.tar'), await whole());
    await run('tar', ['-xf', 'all.tar'], { cwd: folder });
    await rm(join(folder, 'all.tar'));
    expect((await readdir(folder)).sort()).toEqual(Object.keys(FILES).sort());
    for (const [name, content] of Object.entries(FILES)) {
      expect(await readFile(join(folder, name))).toEqual(content);
      const { mode, mtimeMs } = await stat(join(folder, name));
      expect(mode & 0o777).toBe(0o644);
      expect(mtimeMs).toBe(new Date('2026-05-04T03:02:01Z').getTime());
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('it has the announced size, the same bytes each time, and complete blocks', async () => {
  const bytes = await whole();
  expect(bytes.byteLength).toBe(archive().totalBytes);
  expect(bytes.byteLength % 512).toBe(0);
  expect(await whole()).toEqual(bytes);
});

test('any range equals the same range of the complete tar', async () => {
  const bytes = await whole();
  const places = [0, 1, 511, 512, 513, 514, 1023, 1024, 1536, 2000, 3000, bytes.byteLength - 1];
  for (const start of places) {
    for (const end of places.filter((place) => place >= start)) {
      expect(await archive().open({ start, end }).then(buffer)).toEqual(bytes.subarray(start, end + 1));
    }
  }
});

test('a file over 8 GiB keeps its size', async () => {
  const bytes = 9 * 2 ** 30;
  const huge = layOutTar(
    [{ name: 'model.safetensors', bytes, open: () => Promise.reject(new Error('unread')) }],
    MTIME,
  );
  expect(huge.totalBytes % 512).toBe(0);
  // The headers before the content, and the trailer.
  const headers = await huge.open({ start: 0, end: huge.totalBytes - bytes - 1024 - 1 }).then(buffer);
  const sizes: (number | undefined)[] = [];
  const parser = list({ onReadEntry: (entry) => sizes.push(entry.size) });
  parser.write(headers);
  expect(sizes).toEqual([bytes]);
});

test('open files are closed if the reader stops or another file cannot be opened', async () => {
  const opened: Readable[] = [];
  const entry = (name: string): TarEntry => ({
    name,
    bytes: 3,
    open: async () => {
      const stream = new Readable({ read() {} });
      opened.push(stream);
      return stream;
    },
  });
  const two = layOutTar([entry('a'), entry('b')], MTIME);
  const stream = await two.open({ start: 0, end: two.totalBytes - 1 });
  stream.destroy();
  await new Promise((resolve) => stream.once('close', resolve));
  expect(opened.map(({ destroyed }) => destroyed)).toEqual([true, true]);

  const failing = layOutTar([entry('a'), { ...entry('b'), open: () => Promise.reject(new Error('gone')) }], MTIME);
  await expect(failing.open({ start: 0, end: failing.totalBytes - 1 })).rejects.toThrow('gone');
  expect(opened[2]!.destroyed).toBe(true);
});
