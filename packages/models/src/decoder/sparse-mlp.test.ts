import {
  chooseKernels,
  dispose,
  type KernelSet,
  liveTensorCount,
  observeOps,
  scope,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { DenseExperts, expertGroups } from '../frozen-experts.js';
import { DenseLinear, type LinearGroup } from '../frozen-linear.js';
import type { BlockContext } from './block.js';
import { FeedForward, SharedExpert } from './feed-forward.js';
import { FrozenRouter, ScaledRouter } from './router.js';
import { SparseMlp } from './sparse-mlp.js';

const [TOKENS, HIDDEN, INTERMEDIATE, SHARED] = [7, 6, 4, 3];
const MLP = { gated: true, activation: 'silu' } as const;
/** So small that some gates and ups are beyond it. */
const LIMIT = 0.8;
/** Float32 against float64. */
const TOLERANCE = 1e-5;

interface Settings {
  count: number;
  perToken: number;
  renormalized: boolean;
  isShared: boolean;
  /** True if router and experts have biases and the unit is clamped, as in gpt-oss. @defaultValue false */
  isClamped?: boolean;
  /** True if router and experts read other numbers than the input, and experts have factors. @defaultValue false */
  isScaled?: boolean;
}

const mlpFor = ({ isClamped = false }: Settings) =>
  isClamped ? ({ gated: true, activation: 'quick_gelu', clampedAt: LIMIT } as const) : MLP;

/** Numbers of the weights. The router always takes the first expert, by a number that all tokens have, and never the last. */
function numbersOf({ count }: Settings) {
  const router = normalNumbers(count * HIDDEN, 10).map((value) => 0.4 * value);
  for (let expert = 0; expert < count; expert++) router[expert * HIDDEN] = 0;
  router[0] = 1;
  router[(count - 1) * HIDDEN] = -1;
  return {
    router,
    gateUp: normalNumbers(count * 2 * INTERMEDIATE * HIDDEN, 11),
    down: normalNumbers(count * HIDDEN * INTERMEDIATE, 12),
    sharedGateUp: normalNumbers(2 * SHARED * HIDDEN, 13),
    sharedDown: normalNumbers(HIDDEN * SHARED, 14),
    sharedGate: normalNumbers(HIDDEN, 15),
    routerBias: normalNumbers(count, 16).map((value) => 0.2 * value),
    gateUpBias: normalNumbers(count * 2 * INTERMEDIATE, 17),
    downBias: normalNumbers(count * HIDDEN, 18),
    routerScale: scales(HIDDEN, 16),
    inputScale: scales(HIDDEN, 17),
    expertScales: scales(count, 18),
  };
}

const scales = (count: number, seed: number) => normalNumbers(count, seed).map((value) => 1 + 0.2 * value);
const times = (x: ArrayLike<number>, factors: ArrayLike<number>) => Array.from(x, (value, i) => value * factors[i]!);

const X = normalNumbers(TOKENS * HIDDEN, 1);
for (let token = 0; token < TOKENS; token++) X[token * HIDDEN] = 3;
const BY_OUTPUT = normalNumbers(TOKENS * HIDDEN, 2);

const dot = (a: ArrayLike<number>, b: ArrayLike<number>, size: number) => {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += a[i]! * b[i]!;
  return sum;
};
const sigmoid = (value: number) => 1 / (1 + Math.exp(-value));

/** `down (silu(gate x) · up x)` in float64. */
function mlpOf(x: ArrayLike<number>, gateUp: Float32Array, down: Float32Array, width: number): number[] {
  const row = (index: number) => dot(gateUp.subarray(index * HIDDEN), x, HIDDEN);
  const activated = Array.from({ length: width }, (_, i) => row(i) * sigmoid(row(i)) * row(width + i));
  return Array.from({ length: HIDDEN }, (_, i) => dot(down.subarray(i * width), activated, width));
}

/** `down (clamped unit (x)) + bias` of one expert in float64: gate and up of each number are next to each other. */
function clampedMlpOf(x: ArrayLike<number>, expert: number, settings: Settings): number[] {
  const { gateUp, gateUpBias, down, downBias } = numbersOf(settings);
  const row = (index: number) => {
    const at = expert * 2 * INTERMEDIATE + index;
    return dot(gateUp.subarray(at * HIDDEN), x, HIDDEN) + gateUpBias[at]!;
  };
  const activated = Array.from({ length: INTERMEDIATE }, (_, i) => {
    const gate = Math.min(row(2 * i), LIMIT);
    const up = Math.max(-LIMIT, Math.min(row(2 * i + 1), LIMIT));
    return (up + 1) * gate * sigmoid(1.702 * gate);
  });
  return Array.from({ length: HIDDEN }, (_, i) => {
    const at = expert * HIDDEN + i;
    return dot(down.subarray(at * INTERMEDIATE), activated, INTERMEDIATE) + downBias[at]!;
  });
}

/** The weights of a token's experts in float64, 0 of the others. */
function weightsOf(x: ArrayLike<number>, settings: Settings): number[] {
  const { router, routerBias, routerScale, expertScales } = numbersOf(settings);
  const { count, perToken, renormalized, isClamped = false, isScaled = false } = settings;
  const read = isScaled ? times(x, routerScale) : x;
  const exponentials = Array.from({ length: count }, (_, expert) =>
    Math.exp(dot(router.subarray(expert * HIDDEN), read, HIDDEN) + (isClamped ? routerBias[expert]! : 0)),
  );
  const least = [...exponentials].sort((a, b) => b - a)[perToken - 1]!;
  const chosen = exponentials.map((value) => (value >= least ? value : 0));
  const sum = (renormalized ? chosen : exponentials).reduce((total, value) => total + value, 0);
  const weights = chosen.map((value) => value / sum);
  return isScaled ? times(weights, expertScales) : weights;
}

/** The output of a token in float64. */
function outputOf(x: ArrayLike<number>, settings: Settings, weights = weightsOf(x, settings)): number[] {
  const own = numbersOf(settings);
  const parts = weights.map((weight, expert) => {
    if (settings.isClamped) return clampedMlpOf(x, expert, settings).map((value) => weight * value);
    const gateUp = own.gateUp.subarray(expert * 2 * INTERMEDIATE * HIDDEN);
    const down = own.down.subarray(expert * HIDDEN * INTERMEDIATE);
    const read = settings.isScaled ? times(x, own.inputScale) : x;
    return mlpOf(read, gateUp, down, INTERMEDIATE).map((value) => weight * value);
  });
  if (settings.isShared) {
    const factor = sigmoid(dot(own.sharedGate, x, HIDDEN));
    parts.push(mlpOf(x, own.sharedGateUp, own.sharedDown, SHARED).map((value) => factor * value));
  }
  return Array.from({ length: HIDDEN }, (_, i) => parts.reduce((sum, part) => sum + part[i]!, 0));
}

const tokenOf = (numbers: ArrayLike<number>, token: number) =>
  Array.from(numbers).slice(token * HIDDEN, (token + 1) * HIDDEN);

/** The gradient of `Σ BY_OUTPUT · output` by x in float64. @param isDetached the weights of experts do not depend on x */
function expectedGradient(settings: Settings, isDetached: boolean): number[] {
  return Array.from({ length: TOKENS }, (_, token) => token).flatMap((token) => {
    const x = tokenOf(X, token);
    const weights = weightsOf(x, settings);
    const lossOf = (moved: number[]) =>
      dot(outputOf(moved, settings, isDetached ? weights : undefined), tokenOf(BY_OUTPUT, token), HIDDEN);
    return x.map((_, i) => {
      const moved = (by: number) => x.map((value, j) => (i === j ? value + by : value));
      return (lossOf(moved(1e-5)) - lossOf(moved(-1e-5))) / 2e-5;
    });
  });
}

function sparseMlp(kernels: KernelSet, settings: Settings): SparseMlp {
  const own = numbersOf(settings);
  const { count } = settings;
  const group = (name: string, numbers: Float32Array<ArrayBuffer>, shape: [number, number]): LinearGroup => ({
    modules: [{ name, outFeatures: shape[0] }],
    linear: new DenseLinear(kernels, tensorOf(numbers, shape), null),
  });
  const ofMlp = {
    gateUp: group('gate_up', own.sharedGateUp, [2 * SHARED, HIDDEN]),
    down: group('down', own.sharedDown, [HIDDEN, SHARED]),
  };
  const shared = new SharedExpert(new FeedForward(MLP, ofMlp), group('gate', own.sharedGate, [1, HIDDEN]));
  if (!settings.isShared) shared.dispose();
  const biases = {
    gateUp: tensorOf(own.gateUpBias, [count, 2 * INTERMEDIATE]),
    down: tensorOf(own.downBias, [count, HIDDEN]),
  };
  if (!settings.isClamped) dispose(biases);
  const vector = (numbers: Float32Array<ArrayBuffer>) => tensorOf(numbers, [numbers.length]);
  const router = settings.isScaled
    ? new ScaledRouter(vector(own.routerScale), group('router', own.router, [count, HIDDEN]))
    : new FrozenRouter(
        kernels,
        tensorOf(own.router, [count, HIDDEN]),
        settings.isClamped ? vector(own.routerBias) : null,
      );
  return new SparseMlp(settings, mlpFor(settings), {
    correction: null,
    biases: settings.isClamped ? biases : null,
    router,
    expertScales: settings.isScaled ? own.expertScales : null,
    inputScale: settings.isScaled ? vector(own.inputScale) : null,
    gateUp: expertGroups(
      'gate_up_proj',
      new DenseExperts(kernels, tensorOf(own.gateUp, [count, 2 * INTERMEDIATE, HIDDEN])),
    ),
    down: expertGroups('down_proj', new DenseExperts(kernels, tensorOf(own.down, [count, HIDDEN, INTERMEDIATE]))),
    shared: settings.isShared ? shared : null,
  });
}

const context = (record: boolean) => ({ adapters: [], record, wanted: null }) as unknown as BlockContext;

/** @param tokens of the numbers */
function forward(mlp: SparseMlp, numbers: Float32Array<ArrayBuffer>): Float32Array {
  return scope(() =>
    toFloat32Array(mlp.forward(tensorOf(numbers, [numbers.length / HIDDEN, HIDDEN]), context(false)).output),
  );
}

function gradient(
  mlp: SparseMlp,
  numbers: Float32Array<ArrayBuffer>,
  byOutput: Float32Array<ArrayBuffer>,
): Float32Array {
  const x = () => tensorOf(numbers, [numbers.length / HIDDEN, HIDDEN]);
  const { output, saved } = mlp.forward(x(), context(true));
  dispose(output);
  const by = tensorOf(byOutput, [numbers.length / HIDDEN, HIDDEN]);
  const again: Tensor[] = [];
  const byInput = mlp.backward(by, saved!, context(true), true, () => {
    again.push(x());
    return again.at(-1)!;
  })!;
  const values = toFloat32Array(byInput);
  dispose([byInput, ...again]);
  return values;
}

const SETTINGS: Settings[] = [
  { count: 5, perToken: 2, renormalized: true, isShared: false },
  { count: 5, perToken: 2, renormalized: false, isShared: false },
  { count: 4, perToken: 1, renormalized: false, isShared: false },
  { count: 5, perToken: 3, renormalized: true, isShared: true },
  { count: 5, perToken: 2, renormalized: true, isShared: false, isClamped: true },
  { count: 5, perToken: 2, renormalized: true, isShared: false, isScaled: true },
];

describe.each(['fused', 'raw'] as const)('with %s kernels', (source) => {
  const kernels = chooseKernels(source);

  describe.each(SETTINGS)('experts: %o', (settings) => {
    let mlp: SparseMlp;
    beforeAll(() => {
      mlp = sparseMlp(kernels, settings);
    });
    afterAll(() => mlp.dispose());

    test('the output is the weighted sum of the experts of each token', () => {
      const expected = Array.from({ length: TOKENS }, (_, token) => outputOf(tokenOf(X, token), settings)).flat();
      expect(differenceByLargest(forward(mlp, X), expected)).toBeLessThan(TOLERANCE);
    });

    test('the gradient by the input is that of finite differences, through the router too', () => {
      const expected = expectedGradient(settings, false);
      expect(differenceByLargest(gradient(mlp, X, BY_OUTPUT), expected)).toBeLessThan(TOLERANCE);
      // A gradient that does not go through the router is another one.
      expect(differenceByLargest(expectedGradient(settings, true), expected)).toBeGreaterThan(100 * TOLERANCE);
    });

    test('a token has the same bits whatever tokens are beside it', ({ skip }) => {
      if (!kernels.rowsAreIndependent('float32'))
        skip('The products of this machine in float32 depend on the number of rows.');
      const [outputs, gradients] = [forward(mlp, X), gradient(mlp, X, BY_OUTPUT)];
      for (const tokens of [[0], [6, 2], [1, 2, 3, 5]]) {
        const some = (numbers: Float32Array) => Float32Array.from(tokens.flatMap((token) => tokenOf(numbers, token)));
        expect(forward(mlp, some(X))).toEqual(some(outputs));
        expect(gradient(mlp, some(X), some(BY_OUTPUT))).toEqual(some(gradients));
      }
    });

    test('a token that is not a number leaves the others as they are', () => {
      const broken = X.slice();
      broken[2 * HIDDEN + 1] = Number.NaN;
      const others = (numbers: Float32Array) => [0, 1, 3, 4, 5, 6].flatMap((token) => tokenOf(numbers, token));
      const results = [forward(mlp, broken), gradient(mlp, broken, BY_OUTPUT)];
      for (const numbers of results) expect(tokenOf(numbers, 2).every(Number.isNaN)).toBe(true);
      expect(differenceByLargest(others(results[0]!), others(forward(mlp, X)))).toBeLessThan(TOLERANCE);
      expect(differenceByLargest(others(results[1]!), others(gradient(mlp, X, BY_OUTPUT)))).toBeLessThan(TOLERANCE);
    });

    test('nothing stays alive', () => {
      gradient(mlp, X, BY_OUTPUT);
      const before = liveTensorCount();
      gradient(mlp, X, BY_OUTPUT);
      forward(mlp, X);
      expect(liveTensorCount()).toBe(before);
    });
  });
});

describe('the number of ops', () => {
  const kernels = chooseKernels('fused');
  afterEach(() => observeOps(null));

  test('does not depend on the number of experts', ({ skip }) => {
    if (kernels.library !== 'cuda' && !kernels.rowsAreIndependent('float32'))
      skip('The plain grouped product is one product for each expert.');
    const opsWith = (count: number, isClamped = false) => {
      const mlp = sparseMlp(kernels, { count, perToken: 2, renormalized: true, isShared: false, isClamped });
      const ops: string[] = [];
      observeOps(({ name }) => ops.push(name));
      gradient(mlp, X, BY_OUTPUT);
      observeOps(null);
      mlp.dispose();
      return ops;
    };
    const few = opsWith(3);
    expect(opsWith(12)).toEqual(few);
    const clamped = opsWith(3, true);
    expect(opsWith(12, true)).toEqual(clamped);
    const times = (ops: readonly string[], op: string) => ops.filter((name) => name === op).length;
    expect(times(few, 'LorasmithGroupedProduct')).toBe(4);
    // The sums of each token's rows, and of their gradients.
    expect(times(few, 'LorasmithGatheredSum')).toBe(2);
    // Forward, and again for the gradients by the weights.
    expect(times(clamped, 'LorasmithClampedUnit')).toBe(2);
    expect(times(clamped, 'LorasmithClampedUnitGradient')).toBe(1);
    // On a card, indices are moved there once.
    const computing = (ops: readonly string[]) => ops.filter((name) => name !== 'LorasmithToDevice').length;
    expect(computing(few)).toBeLessThanOrEqual(18);
    expect(computing(clamped)).toBeLessThanOrEqual(24);
  });
});
