import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readModelFolder, withBaseQuantization } from '../../packages/model-folder/src/index.js';
import { ALL_LAYERS, type Decoder, LoraAdapter, loadDecoder, tokenBatchOf } from '../../packages/models/src/index.js';
import { chooseKernels, type FloatDType, type KernelOptions, type KernelSet } from '../../packages/tensor/src/index.js';
import { ADAMW_DEFAULTS, AdamW } from '../../packages/training/src/adamw.js';
import { runnable } from '../../packages/training/src/batches.js';
import { NextToken } from '../../packages/training/src/objectives/next-token/next-token.js';
import { optimizerStep } from '../../packages/training/src/optimizer-step.js';
import { PassScheduler } from '../../packages/training/src/shared-pass/pass-scheduler.js';
import { TESTED_KERNELS } from '../usual-cases.js';
import { watchDevice } from './device-watch.js';
import { writeRandomLlama } from './random-llama.js';

// Where the ops of a training step run, and what is copied between host and device.

const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url));
const FAMILIES = readdirSync(path.join(FIXTURES, 'families')).filter((name) => !name.includes('.'));
const passes = new PassScheduler().join();

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'emulated-step-'));
});
afterAll(() => rm(root, { recursive: true }));

interface StepOptions {
  dtype?: FloatDType;
  dropout?: number;
  recomputedLayers?: number;
  microBatches?: number;
}

/** An adapter on every linear layer, and steps of it over rows of unlike length. */
function trainerOf(model: Decoder, { dropout = 0, recomputedLayers = 0, microBatches = 1 }: StepOptions) {
  const targets = model.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 4, scale: 2 })));
  const adapter = new LoraAdapter(model.groups, { targets, dropout, seed: 1 });
  const optimizer = new AdamW(model.kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, weightDecay: 0.01 });
  const objective = new NextToken(model);
  const batchOf = (lengths: number[]) => {
    const rows = lengths.map((length, row) => ({
      ids: Int32Array.from({ length }, (_, i) => (3 + row * 31 + i * 17) % model.architecture.vocabSize),
      trained: Uint8Array.from({ length }, (_, i) => Number(i > 1)),
    }));
    const batch = tokenBatchOf(rows);
    return runnable(objective, batch);
  };
  return {
    step() {
      const batches = Array.from({ length: microBatches }, () => batchOf([13, 9, 5]));
      return optimizerStep(
        adapter,
        optimizer,
        batches,
        { seed: 1, max_grad_norm: 1, learningRate: 1e-3, recomputedLayers },
        passes,
      );
    },
    dispose() {
      optimizer.dispose();
      adapter.dispose();
    },
  };
}

/** The result of `work` with a trainer on the model of this folder. */
async function onTrainer<Result>(
  kernels: KernelSet,
  folder: string,
  options: StepOptions,
  work: (trainer: ReturnType<typeof trainerOf>) => Promise<Result>,
): Promise<Result> {
  const model = await loadDecoder(await readModelFolder(folder), options.dtype ?? 'float32', kernels);
  const trainer = trainerOf(model, options);
  try {
    return await work(trainer);
  } finally {
    trainer.dispose();
    model.dispose();
  }
}

describe.each(TESTED_KERNELS)('%s kernels', (source) => {
  const kernels = chooseKernels(source);

  test.each(FAMILIES.flatMap((family) => (['float32', 'bfloat16'] as const).map((dtype) => ({ family, dtype }))))(
    'every op of a step of $family in $dtype runs on the device',
    async ({ family, dtype }) => {
      const options = { dtype, dropout: 0.1, microBatches: 2, recomputedLayers: ALL_LAYERS };
      const folder = path.join(FIXTURES, 'families', family, 'base');
      const { offDevice, result } = await onTrainer(kernels, folder, options, (trainer) =>
        watchDevice(() => trainer.step()),
      );
      expect(offDevice.join('\n')).toBe('');
      expect(Number.isFinite(result.loss)).toBe(true);
    },
  );
});

/** Labels of a micro-batch. */
const LABELS = 21;

describe('copies between host and device', () => {
  const kernels = chooseKernels('fused');

  const copies = async (layers: number, options: StepOptions) => {
    const folder = path.join(root, `layers-${layers}`);
    await writeRandomLlama(folder, { layers });
    return await onTrainer(kernels, folder, options, async (trainer) => {
      await trainer.step(); // makes the constants it needs
      return (await watchDevice(() => trainer.step())).statistics;
    });
  };

  const OPTIONS: StepOptions[] = (['float32', 'bfloat16'] as const).flatMap((dtype) => [
    { dtype },
    { dtype, dropout: 0.1, recomputedLayers: ALL_LAYERS, microBatches: 3 },
  ]);
  test.each(OPTIONS)('a step of %o reads once, and copies as much with two layers as with four', async (options) => {
    const two = await copies(2, options);
    const four = await copies(4, options);
    expect(four.launches).toBeGreaterThan(two.launches);
    expect({ ...four, launches: 0 }).toEqual({ ...two, launches: 0 });
    expect(two.downloads).toBe(1);
    // The host waits for what it reads, then TensorFlow does once more, when nothing is left to wait for.
    expect(two).toMatchObject({ waits: 2 * two.downloads, memoryWaits: 0, fullTrims: 0 });
    // The loss of each label, whether the model would have said it, and the norm.
    expect(two.downloadedBytes).toBe(4 * (2 * LABELS * (options.microBatches ?? 1) + 1));
    // Ids, labels, positions and scalars of each micro-batch.
    expect(two.uploads).toBeLessThanOrEqual(12 * (options.microBatches ?? 1) + 4);
  });

  // test/bench/gpu-arithmetic.mjs has these numbers: each launch takes time of the process that computes.
  test.each([
    { recomputedLayers: 0, ofLayer: 66, beside: 31 },
    { recomputedLayers: ALL_LAYERS, ofLayer: 92, beside: 31 },
  ])(
    'a layer of a step in bfloat16, recomputed layers $recomputedLayers, launches at most $ofLayer kernels and products',
    async ({ recomputedLayers, ofLayer, beside }) => {
      const options: StepOptions = { dtype: 'bfloat16', recomputedLayers };
      const [two, four] = [(await copies(2, options)).launches, (await copies(4, options)).launches];
      expect((four - two) / 2).toBeLessThanOrEqual(ofLayer);
      expect(two - (four - two)).toBeLessThanOrEqual(beside);
    },
  );
});

describe('an adapter at weights in 4 bits', () => {
  const stepWith = async (options: KernelOptions, layers: number) => {
    const kernels = chooseKernels('fused', options);
    const folder = path.join(root, `in-4-bits-${layers}`);
    await writeRandomLlama(folder, { layers, hidden: 64, headDim: 16 });
    const model = await loadDecoder(withBaseQuantization(await readModelFolder(folder), 'nf4'), 'bfloat16', kernels);
    const trainer = trainerOf(model, {});
    await trainer.step(); // makes the constants it needs
    const watched = await watchDevice(() => trainer.step());
    trainer.dispose();
    model.dispose();
    return watched;
  };
  const ofLayer = async (options: KernelOptions) => {
    const [two, three] = [await stepWith(options, 2), await stepWith(options, 3)];
    const launches = three.statistics.launches - two.statistics.launches;
    return { ops: three.ops - two.ops, launches, step: three };
  };

  test('is a part of the products with what they decode: fewer ops and launches, as many copies and waits', async () => {
    const beside = await ofLayer({ avoid: ['adaptedPackedForward:bfloat16', 'adaptedPackedBackward:bfloat16'] });
    const joint = await ofLayer({ loraPadding: 'both' });
    // Forward and backward, at each of four groups; and in one direction of each, low numbers that the product has written.
    expect(beside.ops - joint.ops).toBe(8);
    expect(beside.launches - joint.launches).toBe(4);
    const { launches: _, ...ofJoint } = joint.step.statistics;
    const { launches: __, ...ofBeside } = beside.step.statistics;
    expect(ofJoint).toEqual(ofBeside);
    expect(joint.step.offDevice.join('\n')).toBe('');
    expect(joint.step.result.loss).toBeCloseTo(beside.step.result.loss, 2);
  });

  test('with GPU_LORA_PADDING=depth, is a part of one product of each group alone', async () => {
    const beside = await ofLayer({ avoid: ['adaptedPackedForward:bfloat16', 'adaptedPackedBackward:bfloat16'] });
    const deep = await ofLayer({ loraPadding: 'depth' });
    expect(beside.ops - deep.ops).toBe(4);
    expect(deep.launches).toBe(beside.launches);
    expect(deep.step.result.loss).toBeCloseTo(beside.step.result.loss, 2);
  });
});
