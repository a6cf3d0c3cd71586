import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Rollout, readRollout, writeRollout } from './run-inputs.js';

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'rollout-')), 'checkpoints');
});
afterEach(() => rm(join(folder, '..'), { recursive: true }));

const rollout = (batch: number): Rollout => ({
  run: 'run',
  batch,
  kind: 'graded',
  groups: [
    [
      { ids: [5, 2], log_probabilities: [...Float32Array.of(-0.1, -1e-30)], has_ended: true, reward: 0.1 + 0.2 },
      { ids: [batch], log_probabilities: [-3], has_ended: false, reward: -1e6 },
    ],
  ],
});

test('the answers of a batch are read back, number for number, and replace those before', async () => {
  for (const batch of [3, 4]) await writeRollout(folder, rollout(batch));
  expect(await readRollout(folder, { run: 'run', batch: 4 })).toEqual(rollout(4));
  expect(await readRollout(folder, { run: 'run', batch: 3 })).toBeNull();
  expect(await readRollout(folder, { run: 'other', batch: 4 })).toBeNull();
});

test('no answers are found where there is no file, or no folder', async () => {
  expect(await readRollout(folder, { run: 'run', batch: 0 })).toBeNull();
});

test.each([0, 70, -3])('a file of which the byte %i is another is not read', async (at) => {
  await writeRollout(folder, rollout(1));
  const file = join(folder, 'rollout.json');
  const bytes = await readFile(file);
  bytes[at < 0 ? bytes.length + at : at]! ^= 1;
  await writeFile(file, bytes);
  expect(await readRollout(folder, { run: 'run', batch: 1 })).toBeNull();
});

test('a file that is cut off is not read', async () => {
  await writeRollout(folder, rollout(1));
  const file = join(folder, 'rollout.json');
  const bytes = await readFile(file);
  for (const length of [0, 10, 65, bytes.length - 1]) {
    await writeFile(file, bytes.subarray(0, length));
    expect(await readRollout(folder, { run: 'run', batch: 1 })).toBeNull();
  }
});
