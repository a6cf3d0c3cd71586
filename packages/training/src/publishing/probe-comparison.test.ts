import { DenseLinear, type LinearGroup, LoraAdapter, type ModelAdapter } from '@lorasmith/models';
import { chooseKernels, type DType, keep, liveTensorCount, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { PerturbedAdapter } from './probe-comparison.js';
import { layerRounding, weightRounding } from './rounding-bounds.js';

const kernels = chooseKernels('raw');

const [TOKENS, IN, OUT] = [40, 64, 96];

let groups: LinearGroup[];
beforeAll(() => {
  groups = ['adapted', 'alone'].map((name, index) => {
    const weight = keep(tensorOf(normalNumbers(OUT * IN, index), [OUT, IN]));
    return { modules: [{ name, outFeatures: OUT }], linear: new DenseLinear(kernels, weight, null) };
  });
});
afterAll(() => {
  for (const { linear } of groups) linear.dispose();
});

/** An adapter of the first group, its numbers random, of this deviation. */
function adapterWith(deviation: number): LoraAdapter {
  const targets = [{ name: 'adapted', rank: 4, scale: 2 }];
  const adapter = new LoraAdapter(groups, { targets, dropout: 0, seed: 0 });
  const numbers = normalNumbers(adapter.parameterCount, 5).map((number) => deviation * number);
  adapter.setParameters(tensorOf(numbers, [numbers.length]));
  onTestFinished(() => adapter.dispose());
  return adapter;
}

/** `[tokens, out]` of the first group. */
function outputOf(acting: ModelAdapter | null): Float32Array {
  return scope(() => {
    const [{ linear }] = groups as [LinearGroup];
    const x = tensorOf(normalNumbers(TOKENS * IN, 9), [TOKENS, IN]);
    const base = () => linear.forward(x);
    const here = acting?.at(groups[0]!) ?? null;
    if (here === null) return toFloat32Array(base());
    return toFloat32Array(here.forward(x, base, { record: false, dropoutSeed: null }).output);
  });
}

const perturbed = (adapter: ModelAdapter, weights: DType[], draw = 0) =>
  new PerturbedAdapter(adapter, groups, weights, draw);
const minus = (one: Float32Array, other: Float32Array) => one.map((number, i) => number - other[i]!);
const rms = (numbers: Float32Array) =>
  Math.sqrt(numbers.reduce((sum, number) => sum + number ** 2, 0) / numbers.length);

test.each<[string, DType[]]>([
  ['sums', []],
  ['weights in bfloat16', ['bfloat16']],
])('errors have the size of the roundings of %s: base and update by their own sizes', (_, weights) => {
  const adapter = adapterWith(0.5);
  const adapted = outputOf(adapter);
  const size = Math.hypot(rms(adapted), 2 * rms(minus(adapted, outputOf(null))));
  const errors = minus(outputOf(perturbed(adapter, weights)), adapted);
  const expected = Math.hypot(layerRounding('float32', IN), weightRounding(['float32', ...weights])) * size;
  // 3,840 numbers of which 96 are drawn for all tokens.
  expect(rms(errors) / expected).toBeGreaterThan(0.85);
  expect(rms(errors) / expected).toBeLessThan(1.15);
});

test('errors of weights are the same share of a column for all tokens, those of sums are not', () => {
  const adapter = adapterWith(0);
  const base = outputOf(adapter);
  /** The difference of an error's share between two tokens. */
  const changes = (weights: DType[]) => {
    const shares = minus(outputOf(perturbed(adapter, weights)), base).map((error, i) => error / base[i]!);
    return rms(minus(shares.subarray(0, OUT), shares.subarray(OUT, 2 * OUT))) / rms(shares);
  };
  expect(changes(['bfloat16'])).toBeLessThan(0.01);
  expect(changes([])).toBeGreaterThan(0.5);
});

test('a draw has its own errors, the same each time, and only where the adapter acts', () => {
  const adapter = adapterWith(0.5);
  const outputs = [1, 1, 2].map((draw) => outputOf(perturbed(adapter, [], draw)));
  expect(outputs[1]).toEqual(outputs[0]);
  expect(outputs[2]).not.toEqual(outputs[0]);
  expect(perturbed(adapter, []).at(groups[1]!)).toBeNull();
  const before = liveTensorCount();
  outputOf(perturbed(adapter, []));
  expect(liveTensorCount()).toBe(before);
});
