import { LoraAdapter } from '@lorasmith/lora';
import type { ModelFolder } from '@lorasmith/model-folder';
import { ALL_LAYERS, loadDecoder, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import { type FloatDType, type KernelSet, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { type NumericCase, seededNumbers, TRAINING_STEP } from '@lorasmith/tensor/numeric-cases';
import { ADAMW_DEFAULTS, AdamW } from '../adamw.js';
import { runnable } from '../batches.js';
import { NextToken } from '../objectives/next-token/next-token.js';
import { optimizerStep } from '../optimizer-step.js';
import { PassScheduler } from '../shared-pass/pass-scheduler.js';

const RANK = 8;
/** Row lengths of one micro-batch; there are two. */
const ROW_LENGTHS = [31, 12, 64];
const LEARNING_RATE = 1e-3;
/** A step beyond the first ones, in which AdamW is so steep that rounding decides the sign of an update. */
const STEP = 100;

/**
 * One step of training on the probe model in each dtype, with every linear layer adapted: two micro-batches forward and
 * backward with recompute and dropout, clipping, and AdamW. It computes with the kernels that a trainer would use.
 */
export function trainingCases(folder: ModelFolder): NumericCase[] {
  return (['float32', 'bfloat16'] as const).map((dtype) => ({
    name: `training step ${dtype}`,
    subject: { kind: 'training', name: dtype },
    tolerance: TRAINING_STEP[dtype],
    compute: (kernels) => trainingStep(folder, dtype, kernels),
  }));
}

async function trainingStep(
  folder: ModelFolder,
  dtype: FloatDType,
  kernels: KernelSet,
): Promise<Record<string, Float32Array>> {
  const decoder = await loadDecoder(folder, dtype, kernels);
  const targets = folder.modules.map((layer) => ({ ...layer, rank: RANK, scale: 2 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0.1, seed: 1 });
  const count = adapter.parameterCount;
  const optimizer = new AdamW(kernels, count, { ...ADAMW_DEFAULTS, weightDecay: 0.01 });
  try {
    // A new adapter has B = 0, so that the gradient of A is zero.
    const before = seededNumbers([count], 41).map((value) => 0.02 * value);
    adapter.setParameters(tensorOf(before, [count]));
    optimizer.restore(STEP, {
      first: tensorOf(seededNumbers([count], 42).map((value) => 1e-3 * value), [count]),
      second: tensorOf(seededNumbers([count], 43).map((value) => 1e-6 * (value ** 2 + 0.1)), [count]),
    }); // biome-ignore format: one moment a line
    const objective = new NextToken(decoder);
    const batches = [1, 2].map((seed) => {
      const batch = batchOf(seed, decoder.architecture.vocabSize);
      return runnable(objective, batch);
    });
    objective.lossAndGradients(batchOf(3, decoder.architecture.vocabSize), { adapters: [{ adapter }] });
    const gradient = takenFrom(adapter);
    const settings = { seed: 1, max_grad_norm: 0.5, learningRate: LEARNING_RATE, recomputedLayers: ALL_LAYERS };
    const { loss, gradNorm } = await optimizerStep(adapter, optimizer, batches, settings, new PassScheduler().join());
    const update = toFloat32Array(adapter.parameters).map((value, i) => value - before[i]!);
    const moments = {
      first: toFloat32Array(optimizer.moments.first),
      second: toFloat32Array(optimizer.moments.second),
    };
    return { loss: Float32Array.of(loss), gradientNorm: Float32Array.of(gradNorm), gradient, update, ...moments };
  } finally {
    optimizer.dispose();
    adapter.dispose();
    decoder.dispose();
  }
}

function takenFrom(adapter: LoraAdapter): Float32Array {
  const gradient = adapter.takeGradient();
  try {
    return toFloat32Array(gradient);
  } finally {
    gradient.dispose();
  }
}

function batchOf(seed: number, vocabSize: number): TokenBatch {
  return tokenBatchOf(
    ROW_LENGTHS.map((length, row) => ({
      ids: Int32Array.from({ length }, (_, i) => (seed * 97 + row * 31 + i * 17) % vocabSize),
      trained: new Uint8Array(length).fill(1),
    })),
  );
}
