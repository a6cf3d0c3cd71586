import './emulated-gpu.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import type { FloatDType } from '../src/dtype.js';
import { configureKernels, kernelsFor } from '../src/kernels/kernel-table.js';
import { type LoraLayout, type LoraWeights, parametersOf, rawLoraWeights } from '../src/kernels/lora.js';
import type { LoraPart } from '../src/kernels/lora-products.js';
import { slice } from '../src/layout.js';
import { scope, type Tensor } from '../src/tensor.js';
import { cast, tensorOf, toFloat32Array } from '../src/transfer.js';

beforeAll(() => void configureKernels('fused'));
afterAll(() => void configureKernels('raw'));

const TOKENS = 5;
/** Ranks whose sum is no multiple of 8; rows before and after the adapted ones. */
const LAYOUT: LoraLayout = {
  offset: 3,
  inFeatures: 24,
  outFeatures: 40,
  adapted: [
    { rank: 4, scale: 2, outFeatures: 16, firstRow: 8 },
    { rank: 9, scale: 0.5, outFeatures: 8, firstRow: 24 },
  ],
};
const RANK = 13;
const WIDTH = 16;

const numbers = (shape: readonly [number, number], seed: number, dtype: FloatDType) =>
  cast(tensorOf(normalNumbers(shape[0] * shape[1], seed), shape), dtype);
const bytesOf = (tensor: Tensor) => Buffer.from(toFloat32Array(tensor).buffer);

test.each(['float32', 'bfloat16'] as const)('in %s, matrices end with zeros, which change no result', (dtype) => {
  scope(() => {
    const kernels = kernelsFor(dtype);
    const parameters = tensorOf(normalNumbers(3 + parametersOf(LAYOUT), 1), [3 + parametersOf(LAYOUT)]);
    const padded = kernels.loraWeights(parameters, LAYOUT, dtype);
    const exact = rawLoraWeights(parameters, LAYOUT, dtype);
    expect(padded.a.shape).toEqual([WIDTH, 24]);
    expect(padded.scaledB.shape).toEqual([40, WIDTH]);
    expect(exact.a.shape).toEqual([RANK, 24]);
    expect(bytesOf(slice(padded.a, [0, 0], [RANK, 24]))).toEqual(bytesOf(exact.a));
    expect(bytesOf(slice(padded.scaledB, [0, 0], [40, RANK]))).toEqual(bytesOf(exact.scaledB));
    const beyond = [
      slice(padded.a, [RANK, 0], [WIDTH - RANK, 24]),
      slice(padded.scaledB, [0, RANK], [40, WIDTH - RANK]),
    ];
    for (const one of beyond) expect(new Set(toFloat32Array(one))).toEqual(new Set([0]));

    const x = numbers([TOKENS, 24], 2, dtype);
    const base = numbers([TOKENS, 40], 3, dtype);
    const gradient = numbers([TOKENS, 40], 4, dtype);
    const byFrozen = numbers([TOKENS, 24], 5, dtype);
    const results = (weights: LoraWeights) => {
      const rows = { first: 0, count: TOKENS };
      const part: LoraPart = { rows, parameters, layout: LAYOUT, weights: () => weights, dropout: null };
      const { output, low } = kernels.loraForward(base, x, [part]);
      const { byInput, byParameters } = kernels.loraBackward(gradient, x, low, byFrozen, [part]);
      return [output, byInput!, byParameters[0]!];
    };
    const [of, expected] = [results(padded), results(exact)];
    expect(of[2]!.shape).toEqual([parametersOf(LAYOUT)]);
    for (const [i, one] of of.entries()) expect(bytesOf(one)).toEqual(bytesOf(expected[i]!));
  });
});

test('matrices of another width have no gradient', () => {
  scope(() => {
    const { loraGradient } = kernelsFor('float32');
    const of = (width: number) =>
      loraGradient(numbers([width, 24], 6, 'float32'), numbers([40, width], 7, 'float32'), LAYOUT);
    expect(of(RANK).shape).toEqual(of(WIDTH).shape);
    for (const width of [RANK - 1, RANK + 1, WIDTH + 8]) expect(() => of(width)).toThrow('must have the shape of A');
  });
});
