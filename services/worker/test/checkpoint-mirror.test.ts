import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type BundleStore, openBundleStore } from '@lorasmith/storage';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { replaced } from '../../../packages/storage/test/replaced.js';
import { CheckpointMirror } from '../src/checkpoint-mirror.js';

// Two hosts, each with its own folder, and one store for both.

const JOB = 'job_0123456789abcdef01234567';
const nameOf = (step: number) => `step-${String(step).padStart(10, '0')}.safetensors`;

let root: string;
let bundles: BundleStore;
let [here, there] = ['', ''];
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-mirror-'));
  [here, there] = [path.join(root, 'here'), path.join(root, 'there')];
  for (const folder of [here, there]) await mkdir(folder);
  bundles = await openBundleStore({ root, kind: 'checkpoints' });
});
afterEach(() => rm(root, { recursive: true, force: true }));

const save = (folder: string, step: number) => writeFile(path.join(folder, nameOf(step)), `state of ${step}`);

test('another host restores the stored checkpoints with their times', async () => {
  await save(here, 1);
  await new CheckpointMirror(bundles).store(JOB, here);
  await new CheckpointMirror(bundles).restore(JOB, there);
  expect(await readdir(there)).toEqual([nameOf(1)]);
  expect(await readFile(path.join(there, nameOf(1)), 'utf8')).toBe('state of 1');
  const [first, second] = await Promise.all([here, there].map((folder) => stat(path.join(folder, nameOf(1)))));
  expect(Math.trunc(second!.mtimeMs)).toBe(Math.trunc(first!.mtimeMs));
});

test('a restored checkpoint has the same id, in whatever millisecond it was written', async () => {
  const start = Date.parse('2026-05-04T03:02:01Z');
  for (let step = 1; step <= 40; step++) {
    await save(here, step);
    await utimes(path.join(here, nameOf(step)), new Date(), new Date(start + step * 37));
  }
  await new CheckpointMirror(bundles).store(JOB, here);
  const stored = (await bundles.list()).sort();
  const restoring = new CheckpointMirror(bundles);
  await restoring.restore(JOB, there);
  await restoring.store(JOB, there);
  expect((await bundles.list()).sort()).toEqual(stored);
});

test('a checkpoint that its worker replaces while it is restored is skipped', async () => {
  const saving = new CheckpointMirror(bundles);
  await save(here, 1);
  await save(here, 2);
  await saving.store(JOB, here);
  const overtaken = replaced<BundleStore>(bundles, {
    async list(prefix) {
      const listed = await bundles.list(prefix);
      await rm(path.join(here, nameOf(1)));
      await save(here, 3);
      await saving.store(JOB, here);
      return listed;
    },
  });
  await new CheckpointMirror(overtaken).restore(JOB, there);
  expect(await readdir(there)).toEqual([nameOf(2)]);
});

test('concurrent restores of one job give complete files and leave no others', async () => {
  for (const step of [1, 2, 3]) await writeFile(path.join(here, nameOf(step)), Buffer.alloc(4_000_000, step));
  await new CheckpointMirror(bundles).store(JOB, here);
  const mirrors = Array.from({ length: 4 }, () => new CheckpointMirror(bundles));
  await Promise.all(mirrors.map((mirror) => mirror.restore(JOB, there)));
  expect((await readdir(there)).sort()).toEqual([1, 2, 3].map(nameOf));
  for (const step of [1, 2, 3]) {
    expect((await readFile(path.join(there, nameOf(step)))).equals(Buffer.alloc(4_000_000, step))).toBe(true);
  }
});

test('a checkpoint that another host removed from the store is stored again', async () => {
  const mirror = new CheckpointMirror(bundles);
  await save(here, 1);
  await mirror.store(JOB, here);
  await new CheckpointMirror(bundles).remove(JOB);
  await mirror.restore(JOB, here);
  await mirror.store(JOB, here);
  expect(await mirror.jobs()).toEqual([JOB]);
});
