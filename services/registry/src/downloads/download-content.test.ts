import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { list } from 'tar';
import { expect, test } from 'vitest';
import type { ByteRange } from './answer-download.js';
import { layOutTar } from './download-content.js';

const run = promisify(execFile);
const MTIME = new Date('2026-05-04T03:02:01.500Z');

const LONG_NAME = `${'x'.repeat(150)}.json`;
const FILES: Record<string, Buffer> = {
  'b.bin': Buffer.from(Array.from({ length: 1300 }, (_, index) => index % 251)),
  'a.json': Buffer.from('{}'),
  'block.bin': Buffer.alloc(1024, 7),
  'empty.txt': Buffer.alloc(0),
  [LONG_NAME]: Buffer.from('long'),
};
const archive = layOutTar(
  Object.entries(FILES).map(([name, content]) => ({ name, bytes: content.byteLength })),
  MTIME,
);
const bytesOf = (range: ByteRange) =>
  Buffer.concat(
    archive.parts(range).map((part) => ('name' in part ? FILES[part.name]!.subarray(part.start, part.end + 1) : part)),
  );
const whole = () => bytesOf({ start: 0, end: archive.totalBytes - 1 });

test('GNU tar unpacks it to the same files', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tar-archive-'));
  try {
    await writeFile(join(folder, 'all.tar'), whole());
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

test('an archive has the announced size, the same bytes each time, and complete blocks', () => {
  const bytes = whole();
  expect(bytes.byteLength).toBe(archive.totalBytes);
  expect(bytes.byteLength % 512).toBe(0);
  expect(whole()).toEqual(bytes);
});

test('any range equals the same range of the complete tar', () => {
  const bytes = whole();
  const places = [0, 1, 511, 512, 513, 514, 1023, 1024, 1536, 2000, 3000, bytes.byteLength - 1];
  for (const start of places) {
    for (const end of places.filter((place) => place >= start)) {
      expect(bytesOf({ start, end })).toEqual(bytes.subarray(start, end + 1));
    }
  }
});

test('a file over 8 GiB keeps its size', () => {
  const bytes = 9 * 2 ** 30;
  const huge = layOutTar([{ name: 'model.safetensors', bytes }], MTIME);
  expect(huge.totalBytes % 512).toBe(0);
  // The headers before the content, and the trailer.
  const headers = huge.parts({ start: 0, end: huge.totalBytes - bytes - 1024 - 1 });
  const sizes: (number | undefined)[] = [];
  const parser = list({ onReadEntry: (entry) => sizes.push(entry.size) });
  parser.write(Buffer.concat(headers as Buffer[]));
  expect(sizes).toEqual([bytes]);
});
