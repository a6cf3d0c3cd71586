import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { JobSpec } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { expect, onTestFinished, test } from 'vitest';
import { tinyClassifier } from './tiny-model.js';

const MB = 2 ** 20;
const WIDTH = 32;

/** Peak memory of a process that plans a job on so many rows and reads each once. */
async function passOver(rows: number): Promise<{ peakBytes: number; read: number; bytes: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'memory-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const training = { batch_size: 64 };
  const request = {
    base_model: 'tiny',
    dataset: `ds_${'0'.repeat(24)}`,
    validation: { split: 0.1 },
    lora: {},
    training,
  };
  const spec = Value.Default(JobSpec, request) as JobSpec;
  const classifier = tinyClassifier();
  if (classifier.architecture.kind !== 'classifier') throw new Error('no classifier');
  const [first, ...others] = classifier.architecture.layers;
  const architecture = { ...classifier.architecture, layers: [{ ...first!, inFeatures: WIDTH }, ...others] };
  const lora = { ...spec.lora, target_modules: 'all-linear' };
  const parameters = { folder, rows, spec: { ...spec, lora }, model: { ...classifier, architecture }, width: WIDTH };
  // Another thread is only used for the larger file, and takes memory of its own.
  const threads = 1;
  const program = join(import.meta.dirname, 'fixtures/pass-over-rows.mjs');
  // Less than the rows would take as objects, and a bound for what is garbage.
  const flags = ['--max-old-space-size=48', '--max-semi-space-size=2'];
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...flags,
    program,
    JSON.stringify({ ...parameters, threads }),
  ]);
  return JSON.parse(stdout) as { peakBytes: number; read: number; bytes: number };
}

test('memory of planning and of reading batches does not grow with the rows', async () => {
  // The process runs JavaScript, so it is the built one.
  expect(existsSync(join(import.meta.dirname, '../dist/index.js')), 'run "pnpm build" first').toBe(true);
  const few = await passOver(15_000);
  const many = await passOver(300_000);
  expect(few.read).toBe(13_500 * WIDTH);
  expect(many.read).toBe(270_000 * WIDTH);
  // Held in memory, the further rows would take this as numbers alone, and much more as text. Garbage takes up to 13 MB.
  expect(270_000 * WIDTH * 4).toBeGreaterThan(32 * MB);
  expect(many.peakBytes - few.peakBytes).toBeLessThan(24 * MB);
});
