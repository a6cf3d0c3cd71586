import {
  type AdaptedRows,
  cast,
  chooseKernels,
  dispose,
  type FloatDType,
  liveTensorCount,
  scope,
  split,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { DenseLinear, type LinearGroup } from '../frozen-linear.js';
import { LoraGroup } from './lora-group.js';

const kernels = chooseKernels('raw');

type Numbers = Float32Array<ArrayBuffer>;

interface Layer {
  weight: Numbers;
  bias: Numbers | null;
  inFeatures: number;
  adapted: AdaptedRows[];
  /** `[Σ rank, in]` */
  a: Numbers;
  /** Each `[out, rank]` */
  b: Numbers[];
  dropout?: number;
  seed?: [number, number];
}

/** The layer as tensors of the engine. */
interface Adapted {
  forward(x: Tensor, record: boolean): ReturnType<LoraGroup['forward']>;
  backward(gradient: Tensor, saved: ReturnType<LoraGroup['forward']>['saved'], want: boolean): Tensor | null;
  /** The gradients of A and of each B. */
  takeGradients(): Tensor[];
}

function withGroup<Result>(layer: Layer, use: (adapted: Adapted) => Result, dtype: FloatDType = 'float32'): Result {
  const { weight, bias, inFeatures, adapted, a, b, dropout = 0, seed = [1, 2] } = layer;
  return scope(() => {
    const outFeatures = weight.length / inFeatures;
    const linear = new DenseLinear(
      kernels,
      cast(tensorOf(weight, [outFeatures, inFeatures]), dtype),
      bias && cast(tensorOf(bias, [outFeatures]), dtype),
    );
    const others = normalNumbers(7, 12);
    const group = new LoraGroup({ modules: [], linear }, adapted, { dropout, index: 0, offset: others.length });
    const sizes = [a.length, ...b.map(({ length }) => length)];
    const parameters = Float32Array.from([others, a, ...b, others].flatMap((values) => [...values]));
    group.setWeights(tensorOf(parameters, [parameters.length]));
    try {
      return use({
        forward: (x, record) =>
          group.forward(x, () => linear.forward(x), { record, dropoutSeed: record ? seed : null }),
        backward: (gradient, saved, want) =>
          group.backward(gradient, () => linear.backwardInput(gradient), saved!, want),
        takeGradients: () => {
          const gradient = group.takeGradient();
          const pieces = split(gradient, sizes, 0);
          gradient.dispose();
          return pieces;
        },
      });
    } finally {
      group.dispose();
    }
  });
}

function forward(layer: Layer, x: Numbers, options: { record?: boolean; dtype?: FloatDType } = {}): Float32Array {
  const { record = true, dtype = 'float32' } = options;
  return withGroup(
    layer,
    (group) => {
      const input = cast(tensorOf(x, [x.length / layer.inFeatures, layer.inFeatures]), dtype);
      const { output, saved } = group.forward(input, record);
      if (!record) expect(saved).toBeNull();
      expect(output.dtype).toBe(dtype);
      return toFloat32Array(output);
    },
    dtype,
  );
}

/** The gradients of the input, of A and of each B. */
function backward(layer: Layer, x: Numbers, byOutput: Numbers) {
  return withGroup(layer, (group) => {
    const tokens = x.length / layer.inFeatures;
    const { saved } = group.forward(tensorOf(x, [tokens, layer.inFeatures]), true);
    const gradient = tensorOf(byOutput, [tokens, byOutput.length / tokens]);
    const byInput = toFloat32Array(group.backward(gradient, saved, true)!);
    const taken = group.takeGradients();
    const [byA, ...byB] = taken.map((tensor) => toFloat32Array(tensor));
    dispose(taken);
    return { byInput, byA: byA!, byB };
  });
}

/** Computes `y = W x + b + scale · B (A x)` layer by layer in float64. */
function plain(layer: Layer, x: Numbers): Float64Array {
  const { weight, bias, inFeatures, adapted, a, b } = layer;
  const outFeatures = weight.length / inFeatures;
  const tokens = x.length / inFeatures;
  const output = new Float64Array(tokens * outFeatures);
  for (let token = 0; token < tokens; token++) {
    const input = x.subarray(token * inFeatures, (token + 1) * inFeatures);
    const row = (matrix: Numbers, index: number) => matrix.subarray(index * inFeatures, (index + 1) * inFeatures);
    for (let out = 0; out < outFeatures; out++) {
      output[token * outFeatures + out] = weightedSum(row(weight, out), input) + (bias?.[out] ?? 0);
    }
    let firstRank = 0;
    for (const [index, { rank, scale, outFeatures: rows, firstRow }] of adapted.entries()) {
      for (let out = 0; out < rows; out++) {
        for (let i = 0; i < rank; i++) {
          const low = weightedSum(row(a, firstRank + i), input);
          output[token * outFeatures + firstRow + out]! += scale * b[index]![out * rank + i]! * low;
        }
      }
      firstRank += rank;
    }
  }
  return output;
}

const IN = 5;
const TOKENS = 4;

/** A group of layers with 3, 2, 4 and 2 rows, of which `adapted` are adapted. */
function layerOf(adapted: AdaptedRows[], further: Partial<Layer> = {}): Layer {
  const totalRank = adapted.reduce((sum, { rank }) => sum + rank, 0);
  return {
    weight: normalNumbers(11 * IN, 1),
    bias: normalNumbers(11, 2),
    inFeatures: IN,
    adapted,
    a: normalNumbers(totalRank * IN, 3),
    b: adapted.map(({ rank, outFeatures }, i) => normalNumbers(outFeatures * rank, 4 + i)),
    ...further,
  };
}

const X = normalNumbers(TOKENS * IN, 10);
const BY_OUTPUT = normalNumbers(TOKENS * 11, 11);

const CASES: [name: string, layer: Layer][] = [
  ['the first and the third of four layers', layerOf([rows(2, 3, 0), rows(3, 4, 5)])],
  ['the second and the last, of different rank', layerOf([rows(1, 2, 3), rows(4, 2, 9)])],
  ['one in the middle', layerOf([rows(2, 4, 5)])],
  ['all of them', layerOf([rows(2, 3, 0), rows(2, 2, 3), rows(2, 4, 5), rows(2, 2, 9)], { bias: null })],
  ['with dropout', layerOf([rows(2, 3, 0), rows(3, 4, 5)], { dropout: 0.4 })],
];

/** Layers of different ranks have different scales, as with the same alpha. */
function rows(rank: number, outFeatures: number, firstRow: number, scale = 3 / rank): AdaptedRows {
  return { rank, scale, outFeatures, firstRow };
}

test('a small example with known results', () => {
  const layer: Layer = {
    weight: Float32Array.of(1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4),
    bias: null,
    inFeatures: 3,
    adapted: [rows(2, 4, 0, 4 / 2)],
    a: Float32Array.of(1, 0, 2, 0, 3, 0),
    b: [Float32Array.of(1, 0, 0, 0, 0, 2, 1, 1)],
  };
  expect([...forward(layer, Float32Array.of(1, 2, 3))]).toEqual([20, 12, 42, 50]);
});

test.each(CASES.filter(([, { dropout }]) => dropout === undefined))('%s: equals the formula', (_, layer) => {
  expect(greatestDifference(forward(layer, X), plain(layer, X))).toBeLessThan(1e-5);
  expect(greatestDifference(forward(layer, X, { record: false }), plain(layer, X))).toBeLessThan(1e-5);
});

describe.each(CASES)('%s: gradients compared with finite differences', (_, layer) => {
  const { byInput, byA, byB } = backward(layer, X, BY_OUTPUT);
  const loss = (changed: Layer, x: Numbers) => weightedSum(forward(changed, x), BY_OUTPUT);

  test('the gradient of A', () => {
    const numeric = centralDifferences((a) => loss({ ...layer, a }, X), layer.a);
    expect(differenceByLargest(byA, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('the gradient of each B', () => {
    expect(byB).toHaveLength(layer.adapted.length);
    for (const [index, own] of layer.b.entries()) {
      const numeric = centralDifferences((b) => loss({ ...layer, b: layer.b.with(index, b) }, X), own);
      expect(differenceByLargest(byB[index]!, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    }
  });

  test('the gradient of the input', () => {
    const numeric = centralDifferences((x) => loss(layer, x), X);
    expect(differenceByLargest(byInput, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });
});

test('gradients accumulate over passes until they are taken', () => {
  const [, layer] = CASES[0]!;
  const once = backward(layer, X, BY_OUTPUT);
  withGroup(layer, (group) => {
    const pass = () => {
      const { saved } = group.forward(tensorOf(X, [TOKENS, IN]), true);
      expect(group.backward(tensorOf(BY_OUTPUT, [TOKENS, 11]), saved, false)).toBeNull();
    };
    pass();
    pass();
    const twice = group.takeGradients();
    const doubled = once.byA.map((value) => 2 * value);
    expect(differenceByLargest(toFloat32Array(twice[0]!), doubled)).toBeLessThan(1e-6);
    expect(() => group.takeGradients()).toThrow('no backward pass');
    pass();
    const again = group.takeGradients();
    expect(differenceByLargest(toFloat32Array(again[0]!), once.byA)).toBeLessThan(1e-6);
    dispose([twice, again]);
  });
});

test('bfloat16 is within its rounding error; gradients are float32', () => {
  const [, layer] = CASES[0]!;
  const exact = forward(layer, X);
  // Six roundings, each by at most 2⁻⁹ of the largest: input, weights, A x, its product with B and two sums.
  expect(differenceByLargest(forward(layer, X, { dtype: 'bfloat16' }), exact)).toBeLessThan(6 * 2 ** -9);
  withGroup(
    layer,
    (group) => {
      const { saved } = group.forward(cast(tensorOf(X, [TOKENS, IN]), 'bfloat16'), true);
      const gradient = cast(tensorOf(BY_OUTPUT, [TOKENS, 11]), 'bfloat16');
      expect(group.backward(gradient, saved, true)!.dtype).toBe('bfloat16');
      const taken = group.takeGradients();
      expect(taken.map(({ dtype }) => dtype)).toEqual(['float32', 'float32', 'float32']);
      expect(differenceByLargest(toFloat32Array(taken[0]!), backward(layer, X, BY_OUTPUT).byA)).toBeLessThan(
        6 * 2 ** -9,
      );
      dispose(taken);
    },
    'bfloat16',
  );
});

describe('dropout', () => {
  /** A layer that returns its input through A and B only, which makes dropout visible. */
  const identity: Layer = {
    weight: new Float32Array(16),
    bias: null,
    inFeatures: 4,
    adapted: [rows(4, 4, 0, 1)],
    a: Float32Array.from({ length: 16 }, (_, i) => Number(i % 5 === 0)),
    b: [Float32Array.from({ length: 16 }, (_, i) => Number(i % 5 === 0))],
    dropout: 0.25,
  };
  const count = 80_000;
  const ones: Numbers = new Float32Array(count).fill(1);

  test('sets its share to zero and scales up the rest, so that the mean is unchanged', () => {
    const dropped = forward(identity, ones);
    const zeros = dropped.filter((value) => value === 0).length;
    expect(new Set(dropped)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    // Allows five standard deviations: √(p (1 - p) / n) of the share, √(p / (1 - p) / n) of the mean.
    expect(Math.abs(zeros / count - 0.25)).toBeLessThan(5 * Math.sqrt((0.25 * 0.75) / count));
    const mean = dropped.reduce((sum, value) => sum + value, 0) / count;
    expect(Math.abs(mean - 1)).toBeLessThan(5 * Math.sqrt(0.25 / 0.75 / count));
  });

  test('is the same for the same seed, and differs for another', () => {
    const first = forward(identity, ones);
    expect(forward(identity, ones)).toEqual(first);
    expect(forward({ ...identity, seed: [1, 3] }, ones)).not.toEqual(first);
    expect(forward({ ...identity, seed: [2, 2] }, ones)).not.toEqual(first);
  });

  test('does not apply to passes that are not recorded, nor to the frozen path', () => {
    expect(forward(identity, ones, { record: false })).toEqual(ones);
    const frozenOnly: Layer = { ...identity, weight: identity.a, b: [new Float32Array(16)] };
    expect(forward(frozenOnly, ones)).toEqual(ones);
  });
});

test('throws if it has no weights', () => {
  scope(() => {
    const linear = new DenseLinear(kernels, tensorOf(new Float32Array(6), [2, 3]), null);
    const described: LinearGroup = { modules: [], linear };
    const group = new LoraGroup(described, [rows(1, 2, 0)], { dropout: 0, index: 0, offset: 0 });
    const x = tensorOf(new Float32Array(3), [1, 3]);
    const compute = () => group.forward(x, () => linear.forward(x), { record: false, dropoutSeed: null });
    expect(compute).toThrow('no A and B');
  });
});

test('passes leave no tensors behind', () => {
  const [, layer] = CASES[4]!;
  backward(layer, X, BY_OUTPUT);
  const before = liveTensorCount();
  backward(layer, X, BY_OUTPUT);
  forward(layer, X, { record: false });
  expect(liveTensorCount()).toBe(before);
});
