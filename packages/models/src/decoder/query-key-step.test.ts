import { chooseKernels, liveTensorCount, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { Norm } from './norm.js';
import { QueryKeyNorm, type QueryKeyStep, RotaryOrder } from './query-key-step.js';

const kernels = chooseKernels('raw');

const SHAPE = { heads: 4, keyValueHeads: 2, headDim: 8 };
const TOKENS = 3;
const WIDTH = (SHAPE.heads + 2 * SHAPE.keyValueHeads) * SHAPE.headDim;
const QKV = normalNumbers(TOKENS * WIDTH, 1);
const BY_OUTPUT = normalNumbers(TOKENS * WIDTH, 2);
const WEIGHTS = {
  query: normalNumbers(SHAPE.heads * SHAPE.headDim, 3),
  key: normalNumbers(SHAPE.heads * SHAPE.headDim, 4),
};
const qkvOf = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [TOKENS, WIDTH]);

function queryKeyNorm(width: 'head' | 'projection', valueNorm = false): QueryKeyStep {
  const norm = (weights: Float32Array<ArrayBuffer>, heads: number) => {
    const size = width === 'head' ? SHAPE.headDim : heads * SHAPE.headDim;
    const weight = tensorOf(weights.slice(0, size), [size]);
    return new Norm(kernels, { kind: 'rms', epsilon: 1e-6, weightOffset: 0 }, weight, null);
  };
  return new QueryKeyNorm(SHAPE, width, {
    query: norm(WEIGHTS.query, SHAPE.heads),
    key: norm(WEIGHTS.key, SHAPE.keyValueHeads),
    value: valueNorm ? norm(new Float32Array(SHAPE.headDim).fill(1), SHAPE.keyValueHeads) : null,
  });
}
const headNorm = () => queryKeyNorm('head');
const projectionNorm = () => queryKeyNorm('projection');
const valueNorm = () => queryKeyNorm('head', true);

const computed = (step: () => QueryKeyStep, values: Float32Array<ArrayBuffer>) =>
  scope(() => toFloat32Array(step().forward(qkvOf(values), false).output));

test('norms of heads: each query and each key has its own, values stay', () => {
  const expected = QKV.map((value, i) => {
    const head = Math.floor((i % WIDTH) / SHAPE.headDim);
    if (head >= SHAPE.heads + SHAPE.keyValueHeads) return value;
    const own = QKV.subarray(i - (i % SHAPE.headDim)).subarray(0, SHAPE.headDim);
    const meanSquare = own.reduce((sum, each) => sum + each * each, 0) / SHAPE.headDim;
    const weight = head < SHAPE.heads ? WEIGHTS.query : WEIGHTS.key;
    return (value / Math.sqrt(meanSquare + 1e-6)) * weight[i % SHAPE.headDim]!;
  });
  expect(greatestDifference(computed(headNorm, QKV), expected)).toBeLessThan(1e-5);
});

test('a norm of values without weights gives each value of a token the mean square of 1', () => {
  const [plain, normed] = [computed(headNorm, QKV), computed(valueNorm, QKV)];
  for (let head = 0; head < (TOKENS * WIDTH) / SHAPE.headDim; head++) {
    const own = (of: Float32Array) => of.subarray(head * SHAPE.headDim).subarray(0, SHAPE.headDim);
    if (head % (WIDTH / SHAPE.headDim) < SHAPE.heads + SHAPE.keyValueHeads) {
      expect(own(normed)).toEqual(own(plain));
    } else {
      const rms = Math.sqrt(own(QKV).reduce((sum, each) => sum + each * each, 0) / SHAPE.headDim + 1e-6);
      expect(
        greatestDifference(
          own(normed),
          own(QKV).map((value) => value / rms),
        ),
      ).toBeLessThan(1e-5);
    }
  }
});

test('norms of projections: all queries of a token have one, all its keys another, values stay', () => {
  const [queries, keys] = [SHAPE.heads * SHAPE.headDim, SHAPE.keyValueHeads * SHAPE.headDim];
  const expected = QKV.map((value, i) => {
    const inToken = i % WIDTH;
    if (inToken >= queries + keys) return value;
    const [first, size] = inToken < queries ? [0, queries] : [queries, keys];
    const own = QKV.subarray(i - inToken + first).subarray(0, size);
    const meanSquare = own.reduce((sum, each) => sum + each * each, 0) / size;
    const weight = inToken < queries ? WEIGHTS.query : WEIGHTS.key;
    return (value / Math.sqrt(meanSquare + 1e-6)) * weight[inToken - first]!;
  });
  expect(greatestDifference(computed(projectionNorm, QKV), expected)).toBeLessThan(1e-5);
});

test('neighbouring pairs: the first of each come before the second of each, what does not rotate lies as in partial rotary', () => {
  const counted = Float32Array.from({ length: TOKENS * WIDTH }, (_, i) => i);
  const whole = computed(() => new RotaryOrder(SHAPE, { rotated: 8, interleaved: true }), counted);
  expect([...whole.subarray(0, 8)]).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
  const part = computed(() => new RotaryOrder(SHAPE, { rotated: 4, interleaved: true }), counted);
  expect([...part.subarray(0, 8)]).toEqual([0, 2, 4, 5, 1, 3, 6, 7]);
});

test('partial rotary: of a head [a, b, c] with 2 + 2 dimensions that rotate comes [a, c₁, b, c₂], of a value itself', () => {
  const counted = Float32Array.from({ length: TOKENS * WIDTH }, (_, i) => i);
  const head = (start: number, order: number[]) => order.map((i) => start + i);
  const output = computed(() => new RotaryOrder(SHAPE, { rotated: 4, interleaved: false }), counted);
  expect([...output.subarray(0, 8)]).toEqual(head(0, [0, 1, 4, 5, 2, 3, 6, 7]));
  const lastKey = WIDTH + 5 * SHAPE.headDim;
  expect([...output.subarray(lastKey, lastKey + 8)]).toEqual(head(lastKey, [0, 1, 4, 5, 2, 3, 6, 7]));
  const firstValue = WIDTH + 6 * SHAPE.headDim;
  expect([...output.subarray(firstValue, firstValue + 8)]).toEqual(head(firstValue, [0, 1, 2, 3, 4, 5, 6, 7]));
});

describe.each<[string, () => QueryKeyStep]>([
  ['norms of heads', headNorm],
  ['norms of projections', projectionNorm],
  ['norms of heads, and of values without weights', valueNorm],
  ['partial rotary', () => new RotaryOrder(SHAPE, { rotated: 2, interleaved: false })],
  ['rotary of neighbouring pairs', () => new RotaryOrder(SHAPE, { rotated: 8, interleaved: true })],
  ['partial rotary of neighbouring pairs', () => new RotaryOrder(SHAPE, { rotated: 4, interleaved: true })],
])('%s', (_, step) => {
  test('has the gradient that finite differences have', () => {
    const numeric = centralDifferences((values) => weightedSum(computed(step, values), BY_OUTPUT), QKV);
    const gradient = scope(() => {
      const own = step();
      const { saved } = own.forward(qkvOf(QKV), true);
      return toFloat32Array(own.backward(qkvOf(BY_OUTPUT), saved));
    });
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('backward frees what was saved', () => {
    scope(() => {
      const [own, qkv, byOutput] = [step(), qkvOf(QKV), qkvOf(BY_OUTPUT)];
      own.forward(qkv, false).output.dispose(); // makes the constants it needs
      const before = liveTensorCount();
      const { output, saved } = own.forward(qkv, true);
      own.backward(byOutput, saved).dispose();
      output.dispose();
      expect(liveTensorCount()).toBe(before);
    });
  });
});
