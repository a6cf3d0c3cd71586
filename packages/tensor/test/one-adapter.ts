import { expect } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { type LoraLayout, type LoraPart, parametersOf } from '../src/kernels/lora.js';
import type { FloatDType, Tensor } from '../src/tensor.js';
import { cast, tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('raw');

// One adapter on all rows of a pass, with random numbers.

export const TOKENS = 37;

export const numbers = (shape: readonly [number, number], seed: number, dtype: FloatDType) =>
  cast(tensorOf(normalNumbers(shape[0] * shape[1], seed), shape), dtype);

export function partOn(layout: LoraLayout, dtype: FloatDType, seed = 10): LoraPart {
  const count = layout.offset + parametersOf(layout);
  const parameters = tensorOf(normalNumbers(count, seed), [count]);
  return {
    ...{ rows: { first: 0, count: TOKENS }, parameters, layout, dropout: null },
    weights: () => kernels.of(dtype).loraWeights(parameters, layout, dtype),
  };
}

export function expectNear(actual: Tensor, expected: Tensor, dtype: FloatDType): void {
  const [of, reference] = [toFloat32Array(actual), toFloat32Array(expected)];
  expect(actual.shape).toEqual(expected.shape);
  const largest = reference.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const bound = (dtype === 'bfloat16' ? 2 ** -7 : 2 ** -20) * largest;
  for (const [i, value] of of.entries())
    if (!(Math.abs(value - reference[i]!) <= bound)) expect(value).toBe(reference[i]);
}
