import type { TrainingOutcome } from '@lorasmith/contracts';
import type { KernelSet } from '@lorasmith/tensor';
import { BaseModelCache } from '../src/base-model-cache.js';
import { train } from '../src/train.js';
import type { TrainOptions } from '../src/train-options.js';

/** A training with a base model of its own, which is freed at the end. */
export async function trainAlone(kernels: KernelSet, options: Omit<TrainOptions, 'cache'>): Promise<TrainingOutcome> {
  const cache = new BaseModelCache(kernels);
  try {
    return await train({ ...options, cache });
  } finally {
    cache.dispose();
  }
}
