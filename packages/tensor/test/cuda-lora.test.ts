import './emulated-gpu.js';
import { expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import {
  isAdaptedAlone,
  PADDING,
  type PaddedWeight,
  rawAdaptedBackward,
  rawAdaptedForward,
  rawPaddedProduct,
} from '../src/kernels/adapted-product.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import {
  type AdaptedRows,
  type LoraLayout,
  type LoraPart,
  parametersOf,
  rawLoraBackward,
  rawLoraForward,
} from '../src/kernels/lora.js';
import { concat, fill } from '../src/layout.js';
import { type DType, type FloatDType, scope } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';
import { expectNear, numbers, partOn, TOKENS } from './one-adapter.js';

const kernels = chooseKernels('fused');
const kernelsFor = (dtype: DType) => kernels.of(dtype);

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

/** Adapters with two rows each, and a row of none between them. */
function partsOf(count: number, dtype: FloatDType): LoraPart[] {
  return Array.from({ length: count }, (_, index) => {
    const parameters = tensorOf(normalNumbers(PARAMETERS, 10 + index), [PARAMETERS]);
    return {
      ...{ rows: { first: 3 * index, count: 2 }, parameters, layout: LAYOUT, dropout: null },
      weights: () => kernels.of(dtype).loraWeights(parameters, LAYOUT, dtype),
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

// More than the tables of a launch hold: 42 products, 85 matrices and 73 gradients.
const MANY = 60;

test.each(['float32', 'bfloat16'] as const)('in %s, more adapters than a launch has place for', (dtype) => {
  scope(() => {
    const { loraForward, loraBackward } = kernels.of(dtype);
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
      const { loraForward, loraBackward } = kernels.of('bfloat16');
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

/** Layers whose input is wider than their output, or as wide: all are adapted. */
const NARROWING: LoraLayout = {
  offset: 1,
  inFeatures: 40,
  outFeatures: 24,
  adapted: [
    { rank: 4, scale: 2, outFeatures: 16, firstRow: 0 },
    { rank: 9, scale: 0.5, outFeatures: 8, firstRow: 16 },
  ],
};

/** Frozen weights, with padding of what an adapter has left there. */
function paddedWeight({ inFeatures, outFeatures }: LoraLayout, dtype: FloatDType): PaddedWeight {
  const weight = numbers([outFeatures, inFeatures], 6, dtype);
  const [rows, columns, axis] = inFeatures < outFeatures ? [outFeatures, PADDING, 1] : [PADDING, inFeatures, 0];
  return { outFeatures, inFeatures, tensor: concat([weight, fill([rows, columns], Number.NaN, dtype)], axis) };
}

const FORMS = [
  { form: 'columns', layout: LAYOUT },
  { form: 'rows', layout: NARROWING },
];
const WITH_PADDING = FORMS.flatMap((one) => [
  { ...one, dtype: 'float32' as const },
  { ...one, dtype: 'bfloat16' as const },
]);

test.each(WITH_PADDING)('in $dtype, an adapter in padding of $form is what it is by itself', ({ layout, dtype }) => {
  scope(() => {
    const { adaptedForward, adaptedBackward, paddedProduct } = kernels.of(dtype);
    const [weight, part] = [paddedWeight(layout, dtype), partOn(layout, dtype)];
    expect(isAdaptedAlone([part], TOKENS)).toBe(true);
    const x = numbers([TOKENS, layout.inFeatures], 7, dtype);
    const gradient = numbers([TOKENS, layout.outFeatures], 8, dtype);
    const [frozen, byFrozen] = [paddedProduct(x, weight, true), paddedProduct(gradient, weight, false)];
    expectNear(frozen, rawPaddedProduct(kernelsFor, x, weight, true), dtype);
    expectNear(byFrozen, rawPaddedProduct(kernelsFor, gradient, weight, false), dtype);
    const forward = adaptedForward(x, weight, part);
    const plain = rawAdaptedForward(kernelsFor, x, weight, part);
    expectNear(forward.output, plain.output, dtype);
    // The forms of `low` are the same, so a pass may go on either way.
    expectNear(forward.low[0]!, plain.low[0]!, dtype);
    for (const wanted of [true, false]) {
      const backward = adaptedBackward(gradient, x, forward.low, weight, part, wanted);
      const plainly = rawAdaptedBackward(kernelsFor, gradient, x, plain.low, weight, part, wanted);
      expect(backward.byInput === null).toBe(!wanted);
      if (wanted) expectNear(backward.byInput!, plainly.byInput!, dtype);
      expectNear(backward.byParameters[0]!, plainly.byParameters[0]!, dtype);
    }
    // What it leaves there is nothing for those without it, or with another.
    expect(toFloat32Array(paddedProduct(x, weight, true))).toEqual(toFloat32Array(frozen));
    expect(toFloat32Array(paddedProduct(gradient, weight, false))).toEqual(toFloat32Array(byFrozen));
    const fresh = adaptedForward(x, paddedWeight(layout, dtype), part).output;
    adaptedForward(x, weight, partOn(layout, dtype, 11));
    expect(toFloat32Array(adaptedForward(x, weight, part).output)).toEqual(toFloat32Array(fresh));
  });
});

test.each(FORMS)('the gradients of an adapter in padding of $form are finite differences', ({ layout }) => {
  scope(() => {
    const { adaptedForward, adaptedBackward } = kernels.of('float32');
    const weight = paddedWeight(layout, 'float32');
    const xSize = TOKENS * layout.inFeatures;
    const count = layout.offset + parametersOf(layout);
    const [x, parameters] = [normalNumbers(xSize, 7), normalNumbers(count, 10)];
    const gradient = numbers([TOKENS, layout.outFeatures], 8, 'float32');
    const byOutput = toFloat32Array(gradient);
    const at = (ofX: Float32Array, ofParameters: Float32Array) => {
      const part = { ...partOn(layout, 'float32'), parameters: tensorOf(ofParameters, [count]) };
      const input = tensorOf(ofX, [TOKENS, layout.inFeatures]);
      const { output, low } = adaptedForward(input, weight, part);
      const loss = toFloat32Array(output).reduce((sum, value, i) => sum + value * byOutput[i]!, 0);
      return { part, input, low, loss };
    };
    const { part, input, low } = at(x, parameters);
    const { byInput, byParameters } = adaptedBackward(gradient, input, low, weight, part, true);
    const along = (numbers: Float32Array, direction: Float32Array, step: number) =>
      numbers.map((value, i) => value + step * direction[i]!);
    const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    // The loss is a polynomial of the second degree in either, of which central differences are exact.
    const [ofX, ofAll] = [normalNumbers(xSize, 20), normalNumbers(count, 21)];
    const byX = at(along(x, ofX, 0.5), parameters).loss - at(along(x, ofX, -0.5), parameters).loss;
    const byAll = at(x, along(parameters, ofAll, 0.5)).loss - at(x, along(parameters, ofAll, -0.5)).loss;
    expect(product(toFloat32Array(byInput!), ofX) / byX).toBeCloseTo(1, 4);
    const own = ofAll.subarray(layout.offset);
    expect(product(toFloat32Array(byParameters[0]!), own) / byAll).toBeCloseTo(1, 4);
  });
});

test('an adapter beside others, with dropout, of many ranks or on some layers of a narrowing group has no padding', () => {
  scope(() => {
    const part = partOn(NARROWING, 'bfloat16');
    const withLayout = (layout: Partial<LoraLayout>): LoraPart => ({ ...part, layout: { ...NARROWING, ...layout } });
    const [first, second] = NARROWING.adapted as [AdaptedRows, AdaptedRows];
    expect(isAdaptedAlone([part], TOKENS)).toBe(true);
    expect(isAdaptedAlone([part], TOKENS + 1)).toBe(false);
    expect(isAdaptedAlone([part, part], TOKENS)).toBe(false);
    expect(isAdaptedAlone([{ ...part, dropout: { rate: 0.1, seed: [1, 2] } }], TOKENS)).toBe(false);
    expect(isAdaptedAlone([withLayout({ adapted: [first] })], TOKENS)).toBe(false);
    expect(isAdaptedAlone([withLayout({ adapted: [{ ...first, rank: 48 }, second] })], TOKENS)).toBe(true);
    expect(isAdaptedAlone([withLayout({ adapted: [{ ...first, rank: 49 }, second] })], TOKENS)).toBe(false);
  });
});
