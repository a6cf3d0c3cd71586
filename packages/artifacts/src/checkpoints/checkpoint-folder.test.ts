import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { CheckpointAdapter, CheckpointState } from './checkpoint-file.js';
import {
  latestCheckpoint as latestOf,
  listCheckpoints,
  readCheckpoint,
  removeIncomplete,
  saveCheckpoint,
} from './checkpoint-folder.js';

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'checkpoint-')), 'checkpoints');
});
afterEach(() => rm(join(folder, '..'), { recursive: true }));

const latestCheckpoint = (path: string, run: string) => latestOf(path, [run]);

function checkpointAt(step: number, run = 'run', best: number | null = null): CheckpointState {
  return {
    step,
    parameters: Float32Array.of(step, 0.1, -3),
    firstMoment: Float32Array.of(1e-9, step, 2),
    secondMoment: Float32Array.of(0, 1e-20, step),
    losses: Float32Array.from({ length: step }, (_, i) => 5 - i / 10),
    accuracies: Float32Array.from({ length: step }, (_, i) => i / (i + 1)),
    rollout: null,
    progress: {
      run,
      parts: { seed: '1' },
      tokens: 100 * step,
      trainedTokens: 10 * step,
      seconds: 1.5,
      epoch: step / 10,
      trainLoss: 5 - step / 10,
      evaluationBefore: { loss: 2, perplexity: 7.4, accuracy: 0.1, tokens: 9, trained_tokens: 9 },
      evaluation: { loss: 1 / step, perplexity: null, accuracy: 0.2, tokens: 9, trained_tokens: 9 },
      evaluations:
        best === null
          ? { best: null, reference: null, withoutGain: 0 }
          : {
              best: {
                step: best,
                evaluation: { loss: 1 / best, perplexity: null, accuracy: 0.2, tokens: 9, trained_tokens: 9 },
              },
              reference: 1 / best,
              withoutGain: 1,
            },
      samples: [{ step: 0, samples: [{ prompt: 0, text: 'é', tokens: 1, finish_reason: 'stop' }] }],
      adapter: {
        base_model: {
          name: 'tiny',
          family: 'llama',
          weights_sha256: 'a'.repeat(64),
          architecture_sha256: 'b'.repeat(64),
          quantization: { type: 'nf4', double_quantization: true, on_load: true },
        },
        dataset: { id: `ds_${'0'.repeat(24)}`, sha256: 'c'.repeat(64), rows: 1 },
        validation_dataset: null,
        report: {} as CheckpointAdapter['report'],
        targets: [{ name: 'q_proj', rank: 1, scale: 2 }],
      },
    },
  };
}

/** Turns a bit at a place (from the end where it is negative) or at a text. */
async function turnBit(file: string, at: number | string): Promise<void> {
  const bytes = await readFile(file);
  const place = typeof at === 'string' ? bytes.indexOf(at) : bytes.length + at;
  bytes[place]! ^= 1;
  await writeFile(file, bytes);
}

const fileOf = (step: number) => `step-${String(step).padStart(10, '0')}.safetensors`;
const path = (step: number) => join(folder, fileOf(step));

test('the answers that the next step trains on are read back, and a changed one is damage', async () => {
  const answer = { ids: [5, 2], log_probabilities: [-0.1, -1e-30], has_ended: true, reward: 0.1 + 0.2 };
  const rollout = { run: 'run', batch: 1, kind: 'graded' as const, groups: [[answer]] };
  await saveCheckpoint(folder, { ...checkpointAt(2), rollout });
  expect((await readCheckpoint(folder, 2)).rollout).toEqual(rollout);
  await turnBit(path(2), '"has_ended"');
  await expect(readCheckpoint(folder, 2)).rejects.toMatchObject({ code: 'checkpoint_not_found' });
});

test('what is saved is read back, number for number', async () => {
  await saveCheckpoint(folder, checkpointAt(7));
  expect(await latestCheckpoint(folder, 'run')).toEqual(checkpointAt(7));
});

test('no checkpoint is found where there is none, or no folder', async () => {
  expect(await latestCheckpoint(folder, 'run')).toBeNull();
  await saveCheckpoint(folder, checkpointAt(1));
  await rm(path(1));
  expect(await latestCheckpoint(folder, 'run')).toBeNull();
});

test('the newest is taken, by number and not by name or time; two are retained', async () => {
  for (const step of [1, 2, 10]) await saveCheckpoint(folder, checkpointAt(step));
  expect((await readdir(folder)).sort()).toEqual([fileOf(2), fileOf(10)]);
  expect((await latestCheckpoint(folder, 'run'))!.step).toBe(10);
});

test.each([
  ['of one turned bit', (file: string) => turnBit(file, -7)],
  ['of one turned bit in its header', (file: string) => turnBit(file, '1.5')],
  ['without its digest', (file: string) => turnBit(file, 'sha256')],
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

test('an incomplete file of a killed process is ignored', async () => {
  await saveCheckpoint(folder, checkpointAt(1));
  await writeFile(`${path(2)}.0123456789ab.tmp`, 'half');
  expect((await latestCheckpoint(folder, 'run'))!.step).toBe(1);
});

test('the checkpoint of another run is not taken', async () => {
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

test('the best one stays, and the best that the one before knew, should the newest be damaged', async () => {
  await saveCheckpoint(folder, checkpointAt(1, 'run', 1));
  await saveCheckpoint(folder, checkpointAt(2, 'run', 1));
  await saveCheckpoint(folder, checkpointAt(3, 'run', 1));
  expect((await readdir(folder)).sort()).toEqual([1, 2, 3].map(fileOf));
  await saveCheckpoint(folder, checkpointAt(4, 'run', 4));
  expect((await readdir(folder)).sort()).toEqual([1, 3, 4].map(fileOf));
  await saveCheckpoint(folder, checkpointAt(5, 'run', 4));
  expect((await readdir(folder)).sort()).toEqual([4, 5].map(fileOf));
});

test('at the end of a run the best and the last are retained', async () => {
  for (const step of [2, 3, 4]) await saveCheckpoint(folder, checkpointAt(step, 'run', 2));
  await saveCheckpoint(folder, checkpointAt(5, 'run', 2), { before: 0 });
  expect((await readdir(folder)).sort()).toEqual([2, 5].map(fileOf));
});

test('a late one does not remove newer ones of the same run', async () => {
  for (const step of [20, 30]) await saveCheckpoint(folder, checkpointAt(step));
  await saveCheckpoint(folder, checkpointAt(10));
  expect((await latestCheckpoint(folder, 'run'))!.step).toBe(30);
});

test('a damaged one goes with the next that is saved', async () => {
  await saveCheckpoint(folder, checkpointAt(9));
  await truncate(path(9), 40);
  await saveCheckpoint(folder, checkpointAt(4));
  expect(await readdir(folder)).toEqual([fileOf(4)]);
});

test('checkpoints are listed newest first, without their tensors being read', async () => {
  for (const step of [1, 2]) await saveCheckpoint(folder, checkpointAt(step));
  await writeFile(path(3), 'not a checkpoint at all');
  const listed = await listCheckpoints(folder);
  expect(listed.map(({ step }) => step)).toEqual([2, 1]);
  const [{ bytes, savedAt, progress }] = listed as [(typeof listed)[0]];
  expect(bytes).toBe((await stat(path(2))).size);
  expect(Math.abs(Date.now() - savedAt.getTime())).toBeLessThan(600_000);
  expect(progress).toEqual(checkpointAt(2).progress);
  expect(await listCheckpoints(join(folder, 'nowhere'))).toEqual([]);
});

test('one is read by its step; a missing or damaged one is reported', async () => {
  await saveCheckpoint(folder, checkpointAt(3));
  expect(await readCheckpoint(folder, 3)).toEqual(checkpointAt(3));
  await expect(readCheckpoint(folder, 4)).rejects.toMatchObject({ code: 'checkpoint_not_found' });
  for (const damage of [() => turnBit(path(3), -1), () => truncate(path(3), 40)]) {
    await damage();
    const damaged = { code: 'checkpoint_not_found', message: expect.stringContaining('damaged') };
    await expect(readCheckpoint(folder, 3)).rejects.toMatchObject(damaged);
  }
});

test('a checkpoint of another version is an error, not a damaged file', async () => {
  await saveCheckpoint(folder, checkpointAt(2));
  const bytes = await readFile(path(2));
  bytes[bytes.indexOf('"version":"1"') + '"version":"'.length] = '2'.charCodeAt(0);
  await writeFile(path(2), bytes);
  const error = { code: 'unsupported_version', message: expect.stringContaining('step 2 has version 2') };
  await expect(readCheckpoint(folder, 2)).rejects.toMatchObject(error);
  await expect(latestCheckpoint(folder, 'run')).rejects.toMatchObject(error);
  await expect(listCheckpoints(folder)).rejects.toMatchObject(error);
});

test('a file that does not say its version is damaged', async () => {
  await saveCheckpoint(folder, checkpointAt(2));
  const bytes = await readFile(path(2));
  bytes.write('"versiom"', bytes.indexOf('"version":"1"'));
  await writeFile(path(2), bytes);
  expect(await latestCheckpoint(folder, 'run')).toBeNull();
  await saveCheckpoint(folder, checkpointAt(1));
  expect(await readdir(folder)).toEqual([fileOf(1)]);
});

test('what killed writers left is removed, and nothing else', async () => {
  await saveCheckpoint(folder, checkpointAt(1));
  await writeFile(`${path(2)}.0123456789ab.tmp`, 'half');
  await writeFile(join(folder, 'of-somebody-else.tmp'), '');
  await removeIncomplete(folder);
  expect((await readdir(folder)).sort()).toEqual(['of-somebody-else.tmp', fileOf(1)]);
  await removeIncomplete(join(folder, 'nowhere'));
});
