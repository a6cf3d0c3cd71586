import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as nextTick } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LogFile } from '../../scripts/stack/managed-process.mjs';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-log-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const read = async (name: string) => await readFile(path.join(folder, name), 'utf8').catch(() => '');

test('a log file stays within its size while it is written, and the newest lines are kept', async () => {
  const log = new LogFile(path.join(folder, 'a.log'), 10_000);
  for (let i = 0; i < 2_000; i++) {
    log.write(`line ${i} ${'x'.repeat(80)}`);
    // The disk takes what was written.
    if (i % 20 === 0) await nextTick();
  }
  log.end();
  await expect.poll(() => read('a.log')).toContain('line 1999 ');
  expect((await readdir(folder)).sort()).toEqual(['a.log', 'a.log.1']);
  const [older, newer] = [await read('a.log.1'), await read('a.log')];
  expect(older.length).toBeLessThan(10_200);
  expect(newer.length).toBeLessThan(10_200);
  const numbers = `${older}${newer}`
    .trimEnd()
    .split('\n')
    .map((line) => Number(/^line (\d+) x{80}$/.exec(line)?.[1]));
  expect(numbers).toEqual(Array.from(numbers, (_, i) => 2_000 - numbers.length + i));
  expect(numbers.length).toBeGreaterThan(100);
});

test('a log file of an earlier start is continued, and counts', async () => {
  for (const part of ['first', 'second']) {
    const log = new LogFile(path.join(folder, 'a.log'), 1_000);
    for (let i = 0; i < 8; i++) log.write(`${part} ${'x'.repeat(92)}`);
    log.end();
    await expect.poll(() => read('a.log')).toContain(part);
  }
  await expect
    .poll(async () => [await read('a.log.1'), await read('a.log')].map((text) => text.split('\n').length - 1))
    .toEqual([11, 5]);
});

test('a folder that takes nothing stops nobody, and an endless line is cut', async () => {
  await writeFile(path.join(folder, 'a-file'), '');
  const refused = new LogFile(path.join(folder, 'a-file/a.log'));
  refused.write('a line');
  refused.end();
  const log = new LogFile(path.join(folder, 'a.log'));
  log.write('x'.repeat(1_000_000));
  log.end();
  await expect.poll(async () => (await read('a.log')).length).toBe(50_001);
});
