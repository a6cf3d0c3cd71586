import './emulated-gpu.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import type { FloatDType } from '../src/dtype.js';
import { configureKernels, kernelsFor } from '../src/kernels/kernel-table.js';
import { type LoraLayout, parametersOf } from '../src/kernels/lora.js';
import { type LoraPart, rawLoraBackward, rawLoraForward } from '../src/kernels/lora-products.js';
import { scope, type Tensor } from '../src/tensor.js';
import { cast, tensorOf, toFloat32Array } from '../src/transfer.js';

beforeAll(() => void configureKernels('fused'));
afterAll(() => void configureKernels('raw'));

const cuda = engine.cuda!;

/** Ranks that are no multiples of 8; rows before and after the adapted ones. */
const LAYOUT: LoraLayout = {
  offset: 3,
  inFeatures: 24,
  outFeatures: 40,
  adapted: [
    { rank: 4, scale: 2, outFeatures: 16, firstRow: 8 },
    { rank: 9, scale: 0.5, outFeatures: 8, firstRow: 24 },
  ],
};
const PARAMETERS = LAYOUT.offset + parametersOf(LAYOUT);

const numbers = (shape: readonly [number, number], seed: number, dtype: FloatDType) =>
  cast(tensorOf(normalNumbers(shape[0] * shape[1], seed), shape), dtype);

/** Adapters with two rows each, and a row of none between them. */
function partsOf(count: number, dtype: FloatDType): LoraPart[] {
  return Array.from({ length: count }, (_, index) => {
    const parameters = tensorOf(normalNumbers(PARAMETERS, 10 + index), [PARAMETERS]);
    return {
      ...{ rows: { first: 3 * index, count: 2 }, parameters, layout: LAYOUT, dropout: null },
      weights: () => kernelsFor(dtype).loraWeights(parameters, LAYOUT, dtype),
    };
  });
}

function passOf(count: number, dtype: FloatDType) {
  const tokens = 3 * count;
  return {
    parts: partsOf(count, dtype),
    base: () => numbers([tokens, 40], 1, dtype),
    x: numbers([tokens, 24], 2, dtype),
    own: numbers([2 * count, 24], 3, dtype),
    gradient: numbers([tokens, 40], 4, dtype),
    byFrozen: () => numbers([tokens, 24], 5, dtype),
  };
}

function expectNear(actual: Tensor, expected: Tensor, dtype: FloatDType): void {
  const [of, reference] = [toFloat32Array(actual), toFloat32Array(expected)];
  expect(actual.shape).toEqual(expected.shape);
  const largest = reference.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const bound = (dtype === 'bfloat16' ? 2 ** -7 : 2 ** -20) * largest;
  for (const [i, value] of of.entries())
    if (!(Math.abs(value - reference[i]!) <= bound)) expect(value).toBe(reference[i]);
}

// More than the tables of a launch hold: 56 products, 102 matrices and 73 gradients.
const MANY = 60;

test.each(['float32', 'bfloat16'] as const)('in %s, more adapters than a launch has place for', (dtype) => {
  scope(() => {
    const { loraForward, loraBackward } = kernelsFor(dtype);
    const { parts, base, x, own, gradient, byFrozen } = passOf(MANY, dtype);
    const forward = loraForward(base(), x, parts);
    const plain = rawLoraForward(kernelsFor, base(), x, parts);
    expectNear(forward.output, plain.output, dtype);
    const backward = loraBackward(gradient, own, forward.low, byFrozen(), parts);
    const plainly = rawLoraBackward(kernelsFor, gradient, own, plain.low, byFrozen(), parts);
    expectNear(backward.byInput!, plainly.byInput!, dtype);
    expect(backward.byParameters).toHaveLength(MANY);
    for (const [i, one] of backward.byParameters.entries()) expectNear(one, plainly.byParameters[i]!, dtype);
  });
});

test('eight adapters take as many launches and copies as one', () => {
  const launchesOf = (count: number) =>
    scope(() => {
      const { loraForward, loraBackward } = kernelsFor('bfloat16');
      const { parts, base, x, own, gradient, byFrozen } = passOf(count, 'bfloat16');
      const [ofBase, ofFrozen] = [base(), byFrozen()];
      const before = cuda.statistics();
      const { low } = loraForward(ofBase, x, parts);
      const between = cuda.statistics();
      loraBackward(gradient, own, low, ofFrozen, parts);
      const after = cuda.statistics();
      return {
        forward: between.launches - before.launches,
        backward: after.launches - between.launches,
        copies: after.uploads + after.downloads - before.uploads - before.downloads,
      };
    });
  // Matrices, the low product in pieces, their sum, the sum with the base; and backward, both products over tokens and their gradients.
  expect(launchesOf(1)).toEqual({ forward: 4, backward: 6, copies: 0 });
  expect(launchesOf(8)).toEqual(launchesOf(1));
});
