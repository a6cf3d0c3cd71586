import { beforeAll, expect, test } from 'vitest';
import { engine } from '../src/binding.js';
import { elementType, execute, intAttribute } from '../src/execute.js';
import { type AdamWStep, zeroMoment } from '../src/kernels/adamw.js';
import type { InstructionSet } from '../src/kernels/fused-library.js';
import { chooseKernels, type KernelSet } from '../src/kernels/kernel-table.js';
import { type LoraLayout, type LoraPart, parametersOf } from '../src/kernels/lora.js';
import { rowsOf } from '../src/layout.js';
import { numericCases, seededTensor, type TestTolerance, testCases } from '../src/numeric-cases/index.js';
import { type DType, dispose, type FloatDType, scope, type Tensor } from '../src/tensor.js';
import { cast, tensorOf, toFloat32Array } from '../src/transfer.js';

const DTYPES = ['float32', 'bfloat16'] as const;

interface Result {
  shape: readonly number[];
  values: Float32Array;
}

function computed(compute: (kernels: KernelSet) => unknown, kernels: KernelSet): Record<string, Result> {
  return scope(() => {
    const results = Object.entries(compute(kernels) as Record<string, Tensor>);
    const read = (tensor: Tensor) => ({ shape: tensor.shape, values: toFloat32Array(cast(tensor, 'float32')) });
    return Object.fromEntries(results.map(([name, tensor]) => [name, read(tensor)]));
  });
}

/** The index of the first number that differs by more than the tolerance, as a NaN does; -1 if there is none. */
function firstFar(actual: Float32Array, expected: Float32Array, tolerance: TestTolerance): number {
  if (tolerance.kind === 'bits') return bytesOf(actual).equals(bytesOf(expected)) ? -1 : 0;
  const bound = boundOf(expected, tolerance);
  return expected.findIndex((value, i) => !(Math.abs(actual[i]! - value) <= bound(value)));
}

function boundOf(
  expected: Float32Array,
  tolerance: Exclude<TestTolerance, { kind: 'bits' }>,
): (value: number) => number {
  if (tolerance.kind === 'largest') {
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-3);
    return () => tolerance.relative * largest;
  }
  const meanSquare = expected.reduce((sum, value) => sum + value * value, 0) / expected.length;
  const floor = tolerance.kind === 'elements' ? tolerance.absolute * Math.sqrt(meanSquare) : 0;
  return (value) => tolerance.relative * Math.abs(value) + floor;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength);

function layoutOf(sizes: Pick<LoraLayout, 'inFeatures' | 'outFeatures'>, adapted: LoraLayout['adapted']): LoraLayout {
  return { offset: 13, ...sizes, adapted };
}

/** Two adapters on rows 0 to 60 and 61 to 99. */
function twoParts(kernels: KernelSet): [LoraPart, LoraPart] {
  const partOf = (first: number, count: number, adapted: LoraLayout['adapted']): LoraPart => {
    const layout = layoutOf({ inFeatures: 50, outFeatures: 71 }, adapted);
    const parameters = seededTensor([layout.offset + parametersOf(layout) + 3], first);
    const weights = () => kernels.of('float32').loraWeights(parameters, layout, 'float32');
    return { rows: { first, count }, parameters, layout, weights, dropout: null };
  };
  return [
    partOf(0, 61, [
      { rank: 3, scale: 1, outFeatures: 13, firstRow: 0 },
      { rank: 4, scale: 1, outFeatures: 31, firstRow: 40 },
    ]),
    partOf(61, 39, [{ rank: 32, scale: 1, outFeatures: 27, firstRow: 13 }]),
  ];
}

const STEP: AdamWStep = {
  ...{ gradientScale: 1 / 47, maxNorm: null, step: 7 },
  ...{ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, learningRate: 3e-4, weightDecay: 0.1 },
};

/** The suite for the library that suits the processor best, or for another that it can run. */
export function testFusedKernels(instructionSet?: InstructionSet): void {
  // Those of simple ops are the same either way.
  const cases = [...numericCases('small').filter(({ subject }) => subject.kind !== 'op'), ...testCases()];
  const named = cases.map((one) => [one.name, one] as const);
  const plain = chooseKernels('raw');
  let fused: KernelSet;
  beforeAll(() => {
    fused = chooseKernels('fused', { instructionSet });
    expect(fused.library, 'npm test compiles the fused libraries').not.toBe('tensorflow');
    if (instructionSet !== undefined) expect(fused.library).toBe(instructionSet);
  });

  test.each(named)('%s', (_, { compute, tolerance, ...one }) => {
    const reference = ('reference' in one && one.reference) || { kernels: 'plain', compute };
    const expected = computed(reference.compute, reference.kernels === 'same' ? fused : plain);
    const actual = computed(compute, fused);
    expect(Object.keys(actual)).toEqual(Object.keys(expected));
    for (const [name, { shape, values }] of Object.entries(expected)) {
      expect(actual[name]!.shape, `the shape of ${name}`).toEqual(shape);
      const far = firstFar(actual[name]!.values, values, tolerance);
      expect(far, `the number of ${name} that differs`).toBe(-1);
    }
  });

  test.runIf(engine.kind === 'cpu').each(DTYPES)(
    'in %s choices that name what does not exist are rejected with a message',
    (dtype) => {
      scope(() => {
        const logits = seededTensor([2, 5], 1, dtype);
        const op = (words: number[]) => () =>
          execute(
            'LorasmithSampleTokens',
            [elementType(logits), intAttribute('top', 0)],
            [logits, tensorOf(Int32Array.from(words), [words.length])],
          );
        const choice = (changed: Record<number, number>) =>
          Object.assign([-1, 0, 0, -1, 0, 0, 0, 0, 0, -1, 0], changed) as number[];
        expect(op(choice({}))).toThrow(/one choice for each row of logits is needed/);
        for (const changed of [
          { 0: 5 },
          { 0: -2 },
          { 2: -1 },
          { 7: -1 },
          { 7: 22, 8: 1 },
          { 8: -1 },
          { 9: 22 },
          { 9: -2 },
        ]) {
          expect(op([...choice({}), ...choice(changed)])).toThrow(/a choice names words or tokens that do not exist/);
        }
        expect(op([...choice({}), ...choice({ 7: 22, 8: 1 }), 5, 0])).toThrow(/words or tokens that do not exist/);
        expect(op([...choice({}), ...choice({ 7: 22, 8: 1, 9: 24 }), 4, 0, -1])).not.toThrow();
      });
    },
  );

  // A GPU's kernel cannot say so: see cross-entropy.test.ts.
  test.runIf(engine.kind === 'cpu')('a label that is not among the classes is rejected with a message', () => {
    const logits = seededTensor([2, 5], 1);
    const labels = tensorOf(Int32Array.of(1, 5), [2]);
    expect(() => fused.of('float32').crossEntropy(logits, labels)).toThrow(/a label is not among the classes/);
    dispose([logits, labels]);
  });

  test('a gradient by the input of LoRA that is not wanted is none', () => {
    const { loraForward, loraBackward } = fused.of('float32');
    scope(() => {
      const parts = twoParts(fused);
      const [base, x] = [seededTensor([101, 71], 1), seededTensor([101, 50], 2)];
      const { low } = loraForward(base, x, parts);
      const own = rowsOf(x, { first: 0, count: 100 });
      expect(loraBackward(seededTensor([101, 71], 3), own, low, null, parts).byInput).toBeNull();
    });
  });

  test('sizes of LoRA and AdamW that do not fit are rejected with a message', () => {
    const layout = layoutOf({ inFeatures: 37, outFeatures: 70 }, [
      { rank: 3, scale: 2, outFeatures: 32, firstRow: 0 },
      { rank: 5, scale: 0.3, outFeatures: 19, firstRow: 32 },
      { rank: 2, scale: 1 / 3, outFeatures: 19, firstRow: 51 },
    ]);
    const { loraWeights, loraGradient, adamW } = fused.of('float32');
    const parameters = seededTensor([layout.offset + parametersOf(layout)], 1);
    if (engine.kind === 'cpu') {
      const beyond = { ...layout, offset: layout.offset + 1 };
      expect(() => loraWeights(parameters, beyond, 'float32')).toThrow(/the group must lie in the parameters/);
      const overlapping = { ...layout, adapted: layout.adapted.map((one) => ({ ...one, firstRow: 0 })) };
      expect(() => loraWeights(parameters, overlapping, 'float32')).toThrow(/the layers must lie in the group/);
      expect(() => loraGradient(parameters, parameters, layout)).toThrow(/must have the shape of A/);
    }
    const [one, other] = twoParts(fused);
    const stream = [seededTensor([101, 71], 2), seededTensor([101, 50], 3)] as const;
    const forward =
      (...parts: LoraPart[]) =>
      () =>
        fused.of('float32').loraForward(...stream, parts);
    expect(forward(other, one)).toThrow(/rows must ascend/);
    expect(forward(one, { ...other, rows: { first: 61, count: 41 } })).toThrow(/rows must ascend/);
    expect(forward({ ...one, layout: { ...one.layout, offset: 17 } })).toThrow(/must lie in the parameters/);
    expect(forward({ ...one, layout: { ...one.layout, adapted: one.layout.adapted.toReversed() } })).toThrow(
      /the layers must lie in the group/,
    );
    const { mergedWeight } = fused.of('bfloat16');
    const base = seededTensor([layout.outFeatures, layout.inFeatures], 4, 'bfloat16');
    const tokens = seededTensor([2, layout.inFeatures], 5);
    const merge = (stored: DType[], dtype: FloatDType) => () =>
      mergedWeight(base, parameters, tokens, { layout, stored, dtype });
    expect(merge(['bfloat16'], 'bfloat16')).toThrow(/each layer must have the dtype of its file/);
    expect(merge(['float16', 'bfloat16', 'bfloat16'], 'bfloat16')).toThrow(/must hold the numbers of the files/);
    const [long, short] = [seededTensor([4], 6), seededTensor([3], 7)];
    const state = { parameters: long, first: long, second: long, rateFactors: null };
    expect(() => adamW(state, short, seededTensor([1], 8), STEP)).toThrow(/must be equally many/);
    const inBlocks = { ...state, first: zeroMoment(4), second: zeroMoment(257) };
    expect(() => adamW(inBlocks, long, seededTensor([1], 9), STEP)).toThrow(/must be equally many/);
  });
}
