import { chooseKernels, engine, scope, sum, toNumber } from '@lorasmith/tensor';
import { seededTensor } from '@lorasmith/tensor/numeric-cases';

/**
 * Computes a product and a sum with TensorFlow's own ops, and reads the result.
 * @throws Error when the engine has no GPU, or cannot compute on it
 */
export function tryGpu(): void {
  if (engine.device !== 'gpu') throw new Error('The engine sees no GPU.');
  const kernels = chooseKernels('raw');
  const found = scope(() => toNumber(sum(kernels.matMul(seededTensor([16, 16], 1), seededTensor([16, 16], 2)), 'all')));
  if (!Number.isFinite(found)) throw new Error(`The GPU computed ${found} where a number was expected.`);
}
