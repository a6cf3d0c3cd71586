import { greaterEqual, multiply } from '../arithmetic.js';
import { elementType, execute, floatAttribute } from '../execute.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, constant, randomUniform, tensorOf } from '../transfer.js';

// What the op computes: see Kernels.

export function fusedDropout(x: Tensor, rate: number, seed: readonly [number, number]): Tensor {
  return scope(() => {
    const attributes = [elementType(x), floatAttribute('rate', rate), floatAttribute('scale', keptScale(rate))];
    return execute('LorasmithDropout', attributes, [x, tensorOf(Int32Array.from(seed), [2])]);
  });
}

export function rawDropout(x: Tensor, rate: number, seed: readonly [number, number]): Tensor {
  return scope(() => {
    const kept = greaterEqual(randomUniform(x.shape, seed), constant(rate));
    return multiply(x, multiply(cast(kept, x.dtype), constant(keptScale(rate), x.dtype)));
  });
}

/** The factor of kept numbers, which preserves the mean. */
export const keptScale = (rate: number): number => 1 / (1 - rate);
