import { mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Checkpoint, latestCheckpoint, saveCheckpoint } from './checkpoint.js';

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'checkpoint-')), 'checkpoints');
});
afterEach(() => rm(join(folder, '..'), { recursive: true }));

function checkpointAt(step: number, run = 'run'): Checkpoint {
  return {
    step,
    parameters: Float32Array.of(step, 0.1, -3),
    firstMoment: Float32Array.of(1e-9, step, 2),
    secondMoment: Float32Array.of(0, 1e-20, step),
    losses: Float32Array.from({ length: step }, (_, i) => 5 - i / 10),
    progress: {
      run,
      tokens: 100 * step,
      trainedTokens: 10 * step,
      seconds: 1.5,
      evaluationBefore: { loss: 2, perplexity: 7.4, accuracy: null, tokens: 9 },
    },
  };
}

const fileOf = (step: number) => `step-${String(step).padStart(10, '0')}.safetensors`;
const path = (step: number) => join(folder, fileOf(step));

test('what is saved is read back, number for number', async () => {
  await saveCheckpoint(folder, checkpointAt(7));
  expect(await latestCheckpoint(folder, 'run')).toEqual(checkpointAt(7));
});

test('where there is none, or no folder', async () => {
  expect(await latestCheckpoint(folder, 'run')).toBeNull();
  await saveCheckpoint(folder, checkpointAt(1));
  await rm(path(1));
  expect(await latestCheckpoint(folder, 'run')).toBeNull();
});

test('the newest is taken, by number and not by name or time; two are kept', async () => {
  for (const step of [1, 2, 10]) await saveCheckpoint(folder, checkpointAt(step));
  expect((await readdir(folder)).sort()).toEqual([fileOf(2), fileOf(10)]);
  expect((await latestCheckpoint(folder, 'run'))!.step).toBe(10);
});

test.each([
  ['cut off in its tensors', async (file: string) => truncate(file, (await stat(file)).size - 10)],
  ['cut off in its header', (file: string) => truncate(file, 40)],
  ['empty', (file: string) => truncate(file, 0)],
  ['of other bytes', (file: string) => writeFile(file, 'not a checkpoint at all')],
])('a newest file that is %s: the one before is taken', async (_, damage) => {
  await saveCheckpoint(folder, checkpointAt(1));
  await saveCheckpoint(folder, checkpointAt(2));
  await damage(path(2));
  expect(await latestCheckpoint(folder, 'run')).toEqual(checkpointAt(1));
});

test('a file that a killed process left half written is not looked at', async () => {
  await saveCheckpoint(folder, checkpointAt(1));
  await writeFile(`${path(2)}.0123456789ab.tmp`, 'half');
  expect((await latestCheckpoint(folder, 'run'))!.step).toBe(1);
});

test("another run's is not taken", async () => {
  await saveCheckpoint(folder, checkpointAt(5, 'other'));
  expect(await latestCheckpoint(folder, 'run')).toBeNull();
  await saveCheckpoint(folder, checkpointAt(3));
  expect(await latestCheckpoint(folder, 'run')).toEqual(checkpointAt(3));
});

test('what is saved stays, though another run came further in the same folder', async () => {
  for (const step of [50, 60]) await saveCheckpoint(folder, checkpointAt(step, 'other'));
  await saveCheckpoint(folder, checkpointAt(10));
  expect(await latestCheckpoint(folder, 'run')).toEqual(checkpointAt(10));
  await saveCheckpoint(folder, checkpointAt(20));
  expect((await readdir(folder)).sort()).toEqual([fileOf(10), fileOf(20)]);
});

test('a checkpoint saved again for the same step replaces the first', async () => {
  await saveCheckpoint(folder, checkpointAt(4, 'other'));
  await saveCheckpoint(folder, checkpointAt(4));
  expect(await latestCheckpoint(folder, 'run')).toEqual(checkpointAt(4));
  expect(await readdir(folder)).toEqual([fileOf(4)]);
});
