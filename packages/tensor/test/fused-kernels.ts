import { describe, expect, test } from 'vitest';
import { multiply, square, subtract } from '../src/arithmetic.js';
import { engine } from '../src/binding.js';
import type { DType, FloatDType } from '../src/dtype.js';
import { elementType, execute, intAttribute } from '../src/execute.js';
import { ACTIVATIONS } from '../src/kernels/activation.js';
import type { AdamWStep, AdamWUpdate } from '../src/kernels/adamw.js';
import type { AttentionSettings, BatchAttention } from '../src/kernels/attention.js';
import type { InstructionSet } from '../src/kernels/fused-library.js';
import { chooseKernels, type KernelSet } from '../src/kernels/kernel-table.js';
import { type LoraLayout, parametersOf } from '../src/kernels/lora.js';
import type { LoraPart } from '../src/kernels/lora-products.js';
import type { MergedWeight } from '../src/kernels/merged-weight.js';
import { zeroMoment } from '../src/kernels/quantized-moments.js';
import type { ChosenToken, TokenChoice } from '../src/kernels/token-choice.js';
import { concat, rowsOf } from '../src/layout.js';
import { numericCases } from '../src/numeric-cases/index.js';
import { randomUniform } from '../src/random.js';
import { dispose, scope, type Tensor } from '../src/tensor.js';
import { cast, constant, tensorOf, toFloat32Array } from '../src/transfer.js';
import { anglesOf } from './rotary-angles.js';

/**
 * Fused kernels against TensorFlow's own ops on the same numbers: whole tensors. In float32 they differ by the order of
 * sums only. In bfloat16 both round their results, and the raw ops round between steps too: a few units of 2⁻⁸ of the
 * largest number.
 */
const TOLERANCE: Record<FloatDType, number> = { float32: 1e-5, bfloat16: 4 * 2 ** -8 };

/** Uniform in ±spread, the same for the same name. */
function numbers(shape: number[], name: string, dtype: FloatDType = 'float32', spread = 1): Tensor {
  const seed = [...name].reduce((sum, letter) => (31 * sum + letter.charCodeAt(0)) % 65_521, 7);
  return scope(() => {
    const centred = subtract(randomUniform(shape, [7, seed]), constant(0.5));
    return cast(multiply(centred, constant(2 * spread)), dtype);
  });
}

function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

function attentionOf(
  kernels: KernelSet,
  lengths: number[],
  { heads, headDim, window }: AttentionSettings,
  dtype: FloatDType,
): BatchAttention {
  const angles = anglesOf(Math.max(...lengths), headDim);
  return kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
}

/**
 * Texts that are read in steps, into a cache whose pages they have in turn.
 * @param texts `[tokens, width]`
 * @param steps how many tokens of each text
 * @param options `samePages`: every text has the same pages. `allPrompt`: also a token alone is of a prompt
 * @returns of each text `[tokens, heads × headDim]`
 */
function attendInSteps(
  kernels: KernelSet,
  texts: readonly Tensor[],
  steps: readonly (readonly number[])[],
  settings: AttentionSettings,
  dtype: FloatDType,
  { samePages = false, allPrompt = false }: { samePages?: boolean; allPrompt?: boolean } = {},
): Tensor[] {
  const { keyValueHeads, headDim, window } = settings;
  const layers = [0, 1].map(() => ({ keyValueHeads, headDim }));
  const shape = { layers, pages: 3 * texts.length, windows: [window], dtype };
  const cache = kernels.of(dtype).keyValueCache(shape);
  const outputs = texts.map((): Tensor[] => []);
  const cached = texts.map(() => 0);
  const angles = anglesOf(128, headDim);
  for (const step of steps) {
    const pieces = step.flatMap((tokens, text) => (tokens === 0 ? [] : [{ text, tokens, cached: cached[text]! }]));
    const angle = (x: Tensor) =>
      concat(
        pieces.map((piece) => rowsOf(x, { first: piece.cached, count: piece.tokens })),
        0,
      );
    const pagesOf = (text: number) => [0, 1, 2].map((page) => (samePages ? page : page * texts.length + text));
    const laidOut = cache.step(
      pieces.map((piece) => ({ ...piece, isPrompt: allPrompt || piece.tokens > 1, pages: pagesOf(piece.text) })),
      { cosine: angle(angles.cosine), sine: angle(angles.sine) },
    );
    const qkv = concat(
      pieces.map((piece) => rowsOf(texts[piece.text]!, { first: piece.cached, count: piece.tokens })),
      0,
    );
    const output = laidOut.attend(qkv, 1, settings);
    let first = 0;
    for (const { text, tokens } of pieces) {
      outputs[text]!.push(rowsOf(output, { first, count: tokens }));
      cached[text]! += tokens;
      first += tokens;
    }
  }
  cache.dispose();
  return outputs.map((pieces) => concat(pieces, 0));
}

/** The results with TensorFlow's own ops, and with the fused ones. */
function rawAndFused(
  instructionSet: InstructionSet | undefined,
  compute: (kernels: KernelSet) => Tensor[],
): Float32Array[][] {
  const run = (kernels: KernelSet) =>
    scope(() => compute(kernels).map((result) => toFloat32Array(cast(result, 'float32'))));
  const fused = chooseKernels('fused', { instructionSet });
  expect(fused.library, 'npm test compiles the fused libraries').not.toBe('tensorflow');
  if (instructionSet !== undefined) expect(fused.library).toBe(instructionSet);
  return [run(chooseKernels('raw')), run(fused)];
}

/** @param tolerance relative to the largest number; 0: the same bits */
function bothWays(
  instructionSet: InstructionSet | undefined,
  dtype: FloatDType,
  compute: (kernels: KernelSet) => Tensor[],
  tolerance = TOLERANCE[dtype],
): void {
  const [expected, actual] = rawAndFused(instructionSet, compute) as [Float32Array[], Float32Array[]];
  for (const [index, values] of expected.entries()) {
    const bound = tolerance * Math.max(1e-3, largest(values));
    const difference = largest(values.map((value, i) => value - actual[index]![i]!));
    expect(difference, `result ${index}`).toBeLessThanOrEqual(bound);
  }
}

const LORA_LAYOUTS: { name: string; layout: LoraLayout }[] = [
  {
    name: 'all layers of a group, of different ranks',
    layout: {
      offset: 13,
      inFeatures: 37,
      outFeatures: 70,
      adapted: [
        { rank: 3, scale: 2, outFeatures: 32, firstRow: 0 },
        { rank: 5, scale: 0.3, outFeatures: 19, firstRow: 32 },
        { rank: 2, scale: 1 / 3, outFeatures: 19, firstRow: 51 },
      ],
    },
  },
  {
    name: 'some layers, with others before, between and after',
    layout: {
      offset: 0,
      inFeatures: 8,
      outFeatures: 50,
      adapted: [
        { rank: 4, scale: 0.5, outFeatures: 10, firstRow: 7 },
        { rank: 1, scale: 7, outFeatures: 3, firstRow: 40 },
      ],
    },
  },
  {
    name: 'one wide layer',
    layout: {
      offset: 1,
      inFeatures: 2100,
      outFeatures: 1100,
      adapted: [{ rank: 64, scale: 0.25, outFeatures: 1100, firstRow: 0 }],
    },
  },
];

/** Adapters of one group: other ranks, layers, rows and dropout. Ranks of 16, 17, 32 and 33 fill panels in different ways. */
const LORA_PARTS: { name: string; inFeatures: number; outFeatures: number; parts: LoraPartShape[] }[] = [
  {
    name: 'several, with rows of none before, between and after',
    inFeatures: 96,
    outFeatures: 160,
    parts: [
      {
        rows: [3, 30],
        ranks: [
          [8, 0, 96],
          [5, 96, 32],
        ],
        rate: 0,
      },
      { rows: [33, 1], ranks: [[17, 96, 32]], rate: 0.3 },
      {
        rows: [40, 57],
        ranks: [
          [33, 0, 96],
          [1, 128, 32],
        ],
        rate: 0.5,
      },
      {
        rows: [97, 2],
        ranks: [
          [16, 0, 96],
          [16, 96, 32],
          [16, 128, 32],
        ],
        rate: 0,
      },
    ],
  },
  {
    name: 'sizes that fill no panel',
    inFeatures: 50,
    outFeatures: 71,
    parts: [
      {
        rows: [0, 61],
        ranks: [
          [3, 0, 13],
          [4, 40, 31],
        ],
        rate: 0.1,
      },
      { rows: [61, 39], ranks: [[32, 13, 27]], rate: 0 },
    ],
  },
  {
    name: 'an odd depth',
    inFeatures: 37,
    outFeatures: 20,
    parts: [{ rows: [0, 100], ranks: [[6, 0, 20]], rate: 0.2 }],
  },
  {
    name: 'one of many rows',
    inFeatures: 1024,
    outFeatures: 64,
    parts: [{ rows: [0, 1100], ranks: [[4, 0, 64]], rate: 0 }],
  },
];

interface LoraPartShape {
  rows: [first: number, count: number];
  ranks: [rank: number, firstRow: number, outFeatures: number][];
  rate: number;
}

type LoraGroupShape = (typeof LORA_PARTS)[number];

const tokensOf = ({ parts }: LoraGroupShape) => parts.at(-1)!.rows[0] + parts.at(-1)!.rows[1] + 1;

/** A part's adapter has the same numbers wherever its rows are. */
function loraPart(
  kernels: KernelSet,
  group: LoraGroupShape,
  shape: LoraPartShape,
  dtype: FloatDType,
  first = shape.rows[0],
): LoraPart {
  const { inFeatures, outFeatures } = group;
  const adapted = shape.ranks.map(([rank, firstRow, rows]) => ({
    ...{ rank, firstRow, outFeatures: rows },
    scale: 3 / (rank + 1),
  }));
  const layout = { offset: 5, inFeatures, outFeatures, adapted };
  const name = `of ${shape.rows}`;
  const parameters = numbers([5 + parametersOf(layout) + 3], name);
  return {
    rows: { first, count: shape.rows[1] },
    parameters,
    layout,
    weights: () => kernels.of(dtype).loraWeights(parameters, layout, dtype),
    dropout: shape.rate === 0 ? null : { rate: shape.rate, seed: [shape.rows[0], 9] },
  };
}

const ADAMW_STEP: AdamWStep = {
  gradientScale: 1 / 47,
  maxNorm: null,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  learningRate: 3e-4,
  weightDecay: 0.1,
  step: 7,
};

/** @param random eight numbers in [0, 1) */
function randomChoice(random: Float32Array, vocab: number): TokenChoice {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, draw = 0] = random;
  const pick = <Value>(values: readonly Value[], at: number) => values[Math.floor(at * values.length)]!;
  const ids = Int32Array.from({ length: Math.ceil(40 * g) }, (_, i) => (7 * i) % vocab);
  return {
    given: a < 0.1 ? Math.floor(b * vocab) : null,
    temperature: pick([0, 0.01, 0.4, 1, 1, 1.7, 30], b),
    topK: pick([0, 0, 1, 4, 50, vocab - 1, 5_000], c),
    topP: pick([1, 1, 0.95, 0.5, 0.01, 0], d),
    minP: pick([0, 0, 0.02, 0.5, 1], e),
    draw,
    penalties: f < 0.3 ? { repetition: 1 + g, ids, subtracted: Float32Array.from(ids, (id) => id / 9 - g) } : null,
    allowed: f > 0.7 ? new Uint32Array(9).map((_, word) => (g * (word + 1) * 2 ** 32) >>> 0) : null,
    logprobs: pick([null, null, 0, 3], a),
  };
}

function numbersOfTokens(chosen: readonly (ChosenToken | null)[]): Tensor[] {
  const numbersOf = (one: ChosenToken | null) => [one?.id ?? -1, one?.logprob ?? 1];
  const top = chosen.flatMap((one) => (one?.top ?? []).flatMap(({ id, logprob }) => [id, logprob]));
  return [chosen.flatMap(numbersOf), top].map((all) => tensorOf(Float32Array.from(all), [all.length]));
}

/** The suite for the library that suits the processor best, or for another that it can run. */
export function testFusedKernels(instructionSet?: InstructionSet): void {
  // Those of simple ops are the same either way.
  const cases = numericCases('small');
  test.each(cases.filter(({ subject }) => subject.kind !== 'op'))('$name', ({ compute, tolerance }) => {
    const results = (kernels: KernelSet) => Object.values(compute(kernels) as Record<string, Tensor>);
    const [expected, actual] = rawAndFused(instructionSet, results) as [Float32Array[], Float32Array[]];
    for (const [index, values] of expected.entries()) {
      const meanSquare = values.reduce((sum, value) => sum + value * value, 0) / values.length;
      const floor = tolerance.kind === 'elements' ? tolerance.absolute * Math.sqrt(meanSquare) : 0;
      const far = values.findIndex(
        (value, i) => !(Math.abs(actual[index]![i]! - value) <= tolerance.relative * Math.abs(value) + floor),
      );
      expect(far, `the number of result ${index} that differs`).toBe(-1);
    }
  });

  describe.each(['float32', 'bfloat16'] as const)('in %s', (dtype) => {
    test('sums of gathered rows are the same bits as those of plain ops', () => {
      const places = [4, 0, 2, 2, 2, 5, 1, 299, 4, 0, 0, 6];
      for (const count of [1, 3, 12]) {
        const sums = (kernels: KernelSet) => {
          const x = numbers([300, 131], 'rows of experts', dtype);
          return [kernels.of(dtype).gatheredSum(x, tensorOf(Int32Array.from(places), [places.length]), count)];
        };
        bothWays(instructionSet, dtype, sums, 0);
      }
      scope(() => {
        const kernels = chooseKernels('fused', { instructionSet });
        const none = tensorOf(new Int32Array(0), [0]);
        expect(kernels.of(dtype).gatheredSum(numbers([2, 7], 'x', dtype), none, 2).shape).toEqual([0, 7]);
      });
    });

    test('tokens and log-probabilities of random rows with random settings are those of the plain variant', () => {
      // Threads of the emulated card take long.
      const [batches, rows, vocab] = engine.kind === 'cpu' ? [20, 100, 301] : [2, 25, 301];
      for (let batch = 0; batch < batches; batch++) {
        const random = scope(() => toFloat32Array(randomUniform([8 * rows], [batch, 99])));
        const choices = Array.from({ length: rows }, (_, row) =>
          randomChoice(random.subarray(8 * row, 8 * row + 8), vocab),
        );
        const compute = (kernels: KernelSet) => {
          // In steps of a quarter, so that many tokens are as probable.
          const spread = batch % 2 === 0 ? 10 : 40;
          const logits = toFloat32Array(numbers([rows, vocab], `logits ${batch}`, 'float32', spread));
          const coarse = cast(
            tensorOf(
              logits.map((logit) => Math.round(4 * logit) / 4),
              [rows, vocab],
            ),
            dtype,
          );
          return numbersOfTokens(kernels.of(dtype).sampleTokens(coarse, choices));
        };
        bothWays(instructionSet, dtype, compute, 0);
      }
    });

    test.runIf(engine.kind === 'cpu')('choices that name what does not exist are rejected with a message', () => {
      // Loads the library.
      chooseKernels('fused', { instructionSet });
      scope(() => {
        const logits = numbers([2, 5], 'logits', dtype);
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
    });

    test('the norm of a sum is the same bits as that of a sum that was made before', () => {
      const kernels = chooseKernels('fused', { instructionSet });
      scope(() => {
        const weight = numbers([83], 'weight');
        const { rmsNorm, addRmsNorm } = kernels.of(dtype);
        const made = addRmsNorm(numbers([300, 83], 'x'), numbers([300, 83], 'branch', dtype), weight, 1e-5);
        const again = rmsNorm(made.sum, weight, 1e-5, dtype);
        expect(toFloat32Array(again.inverseRms)).toEqual(toFloat32Array(made.inverseRms));
        expect(toFloat32Array(again.output)).toEqual(toFloat32Array(made.output));
      });
    });

    test('products, one of them added to a matrix', () => {
      bothWays(instructionSet, dtype, (kernels) => {
        const { matMul, addMatMul } = kernels.of(dtype);
        const a = numbers([45, 780], 'a', dtype);
        const b = numbers([96, 780], 'b', dtype);
        const c = matMul(a, b, false, true); // [45, 96]
        return [c, addMatMul(numbers([45, 780], 'addend', dtype), c, b, false)];
      });
    });

    test('what is left of rows without their mean', () => {
      bothWays(instructionSet, dtype, (kernels) => [
        kernels.of('float32').centred(numbers([37, 48], 'x', 'float32', 3)),
      ]);
    });

    // Where functions are nearly linear, where they bend, and where exp would overflow.
    test.each(ACTIVATIONS)('gated unit of %s and its gradient, and the activation alone', (activation) => {
      for (const spread of [0.1, 6, 120]) {
        bothWays(instructionSet, dtype, (kernels) => {
          const gateUp = numbers([19, 2 * 33], 'gate and up', dtype, spread);
          const own = kernels.of(dtype);
          const gradient = numbers([19, 33], 'gradient', dtype);
          const byGateUp = numbers([19, 66], 'by gate and up', dtype);
          return [
            own.gatedUnit(gateUp, activation),
            own.gatedUnitGradient(gradient, gateUp, activation),
            own.activation(gateUp, activation),
            own.activationGradient(byGateUp, gateUp, activation),
          ];
        });
      }
    });

    test.each(LORA_LAYOUTS)('the matrices of LoRA and their gradient: $name, the same bits', ({ layout }) => {
      bothWays(
        instructionSet,
        dtype,
        (kernels) => {
          const { loraWeights, loraGradient } = kernels.of(dtype);
          const parameters = numbers([layout.offset + parametersOf(layout) + 5], 'parameters');
          const { a, scaledB } = loraWeights(parameters, layout, dtype);
          const byA = numbers([...a.shape], 'by A', dtype);
          const byScaledB = numbers([...scaledB.shape], 'by B', dtype);
          return [a, scaledB, loraGradient(byA, byScaledB, layout)];
        },
        0,
      );
    });

    const loraStream = (group: LoraGroupShape) => ({
      base: numbers([tokensOf(group), group.outFeatures], 'base', dtype),
      x: numbers([tokensOf(group), group.inFeatures], 'x', dtype),
      gradient: numbers([tokensOf(group), group.outFeatures], 'gradient', dtype, 0.1),
      byFrozen: numbers([tokensOf(group), group.inFeatures], 'by frozen', dtype),
    });
    const ownRows = (x: Tensor, parts: readonly LoraPart[]) =>
      concat(
        parts.map(({ rows }) => rowsOf(x, rows)),
        0,
      );

    test.each(LORA_PARTS)('LoRA of $name, and its gradients', (group) => {
      bothWays(instructionSet, dtype, (kernels) => {
        const { loraForward, loraBackward } = kernels.of(dtype);
        const parts = group.parts.map((shape) => loraPart(kernels, group, shape, dtype));
        const { base, x, gradient, byFrozen } = loraStream(group);
        const { output, low } = loraForward(base, x, parts);
        const saved = ownRows(x, parts);
        const { byInput, byParameters } = loraBackward(gradient, saved, low, byFrozen, parts);
        const unwanted = loraBackward(gradient, saved, low, null, parts);
        expect(unwanted.byInput).toBeNull();
        return [output, byInput!, ...byParameters, ...unwanted.byParameters];
      });
    });

    const withCompany = LORA_PARTS.filter(({ parts }) => parts.length > 1);
    test.each(withCompany)('LoRA of $name: each has the bits it has alone', (group) => {
      const kernels = chooseKernels('fused', { instructionSet });
      const { loraForward, loraBackward } = kernels.of(dtype);
      const run = (stream: ReturnType<typeof loraStream>, parts: LoraPart[]) => {
        const copy = (x: Tensor) => multiply(x, constant(1, dtype));
        const { output, low } = loraForward(copy(stream.base), stream.x, parts);
        const saved = ownRows(stream.x, parts);
        const { byInput, byParameters } = loraBackward(stream.gradient, saved, low, copy(stream.byFrozen), parts);
        return parts.map(({ rows }, i) => [rowsOf(output, rows), rowsOf(byInput!, rows), byParameters[i]!]);
      };
      scope(() => {
        const stream = loraStream(group);
        const parts = group.parts.map((shape) => loraPart(kernels, group, shape, dtype));
        const together = run(stream, parts).map((results) => results.map(toFloat32Array));
        // NaN in the parameters of the first stays there.
        const broken = { ...parts[0]!, parameters: multiply(parts[0]!.parameters, constant(Number.NaN)) };
        const beside = run(stream, [broken, ...parts.slice(1)]).map((results) => results.map(toFloat32Array));
        for (const [i, shape] of group.parts.entries()) {
          const { rows } = parts[i]!;
          const own = Object.fromEntries(Object.entries(stream).map(([name, x]) => [name, rowsOf(x, rows)]));
          const [alone] = run(own as typeof stream, [loraPart(kernels, group, shape, dtype, 0)]);
          // As bytes: comparing long arrays number by number takes seconds.
          const bytesOf = (results: Float32Array[]) => Buffer.concat(results.map(({ buffer }) => Buffer.from(buffer)));
          const expected = bytesOf(alone!.map(toFloat32Array));
          expect(bytesOf(together[i]!).equals(expected)).toBe(true);
          if (i > 0) expect(bytesOf(beside[i]!).equals(expected)).toBe(true);
          else expect(beside[0]!.every((values) => values.some(Number.isNaN))).toBe(true);
        }
      });
    });

    test.each(LORA_LAYOUTS)('a merged weight: $name, the same bits; its output and norms', ({ layout }) => {
      const merge = (kernels: KernelSet, result: FloatDType, stored: readonly DType[]) => {
        const parameters = numbers([layout.offset + parametersOf(layout) + 5], 'parameters');
        const base = numbers([layout.outFeatures, layout.inFeatures], 'base', dtype, 0.3);
        const tokens = numbers([5, layout.inFeatures], 'tokens');
        const settings = { layout, stored: layout.adapted.map((_, i) => stored[i % stored.length]!), dtype: result };
        return kernels.of(dtype).mergedWeight(base, parameters, tokens, settings);
      };
      for (const stored of [['float16', 'bfloat16', 'float32'], ['bfloat16']] as const) {
        const result = stored.length === 1 ? dtype : 'float32';
        bothWays(instructionSet, dtype, (kernels) => [merge(kernels, result, stored).weight], 0);
        const others = ({ output, norms }: MergedWeight) => [output, norms];
        bothWays(instructionSet, dtype, (kernels) => others(merge(kernels, result, stored)), 1e-5);
      }
    });

    test.each([0.05, 0.5])('dropout of %d, the same bits', (rate) => {
      bothWays(
        instructionSet,
        dtype,
        (kernels) =>
          [[1], [3, 67], [37, 300]].map((shape) =>
            kernels.of(dtype).dropout(numbers(shape, 'x', dtype), rate, [5, 77]),
          ),
        0,
      );
    });

    test('cross entropy and its gradient, for probabilities from nearly 1 to nearly 0', () => {
      bothWays(instructionSet, dtype, (kernels) => {
        const logits = numbers([23, 301], 'logits', dtype, 40);
        const labels = tensorOf(
          Int32Array.from({ length: 23 }, (_, row) => (row * 53) % 301),
          [23],
        );
        const { loss, gradient } = kernels.of(dtype).crossEntropy(logits, labels);
        return [loss, gradient];
      });
    });

    test('whether the label is the first of the greatest logits, also of equal ones', () => {
      // In steps of 1, so that most rows have several greatest ones, at the label or before or behind it.
      const values = Float32Array.from({ length: 90 * 37 }, (_, i) => Math.round(2 * Math.sin(i * i)));
      const labels = Int32Array.from({ length: 90 }, (_, row) => {
        const own = values.subarray(row * 37, (row + 1) * 37);
        const greatest = Math.max(...own);
        return [own.indexOf(greatest), own.lastIndexOf(greatest), (row * 53) % 37][row % 3]!;
      });
      bothWays(
        instructionSet,
        dtype,
        (kernels) => {
          const logits = cast(tensorOf(values, [90, 37]), dtype);
          return [kernels.of(dtype).crossEntropy(logits, tensorOf(labels, [90])).correct];
        },
        0,
      );
    });

    const SHAPES: { name: string; heads: number; keyValueHeads: number; headDim: number }[] = [
      { name: 'one head', heads: 1, keyValueHeads: 1, headDim: 16 },
      { name: 'grouped queries', heads: 6, keyValueHeads: 2, headDim: 8 },
      { name: 'wide heads', heads: 4, keyValueHeads: 4, headDim: 80 },
    ];
    const KINDS = [
      { window: null, softcap: null, hasSinks: false },
      { window: 5, softcap: null, hasSinks: true },
      { window: null, softcap: 2, hasSinks: false },
      { window: null, softcap: null, hasSinks: true },
      { window: 33, softcap: 1.5, hasSinks: true },
    ];
    // From a logit below the scores to one above them.
    const withSinks = ({ hasSinks, ...settings }: AttentionSettings & { hasSinks: boolean }): AttentionSettings => {
      const { heads } = settings;
      const sinks = Float32Array.from({ length: heads }, (_, head) => (7 * (head + 1)) / heads - 2);
      return { ...settings, sinks: hasSinks ? tensorOf(sinks, [heads]) : undefined };
    };
    const cases = SHAPES.flatMap((shape) => KINDS.map((kind) => ({ ...shape, ...kind })));
    test.each(cases)('attention: $name, window $window, softcap $softcap, sinks $hasSinks', ({ name: _, ...shape }) => {
      const settings = withSinks({ ...shape, scale: 1 / Math.sqrt(shape.headDim) });
      const rowLengths = [70, 70, 41, 17, 1];
      const tokens = 199;
      bothWays(instructionSet, dtype, (kernels) => {
        const width = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim;
        const qkv = numbers([tokens, width], 'qkv', dtype, 2);
        const attention = attentionOf(kernels, rowLengths, settings, dtype);
        const { output, saved } = attention.forward(qkv, settings, true);
        const gradient = numbers([tokens, shape.heads * shape.headDim], 'gradient', dtype);
        return [output, attention.backward(gradient, saved!, settings)];
      });
    });

    test.each(cases)('attention to a cache: $name, window $window, softcap $softcap, sinks $hasSinks', (one) => {
      const { name: _, ...shape } = one;
      const settings = withSinks({ ...shape, scale: 1 / Math.sqrt(shape.headDim) });
      const width = (shape.heads + 2 * shape.keyValueHeads) * shape.headDim;
      const texts = [70, 41, 3, 64].map((length, text) => ({ length, name: `qkv ${text}` }));
      const inPieces = [
        [20, 0, 2, 1],
        [33, 40, 1, 63],
        [17, 1, 0, 0],
      ];
      const read = (
        kernels: KernelSet,
        which: readonly number[],
        steps: readonly (readonly number[])[],
        allPrompt = false,
      ) => {
        const qkv = which.map((i) => numbers([texts[i]!.length, width], texts[i]!.name, dtype, 2));
        return attendInSteps(kernels, qkv, steps, settings, dtype, { allPrompt });
      };
      bothWays(instructionSet, dtype, (kernels) => [concat(read(kernels, [0, 1, 2, 3], inPieces), 0)]);
      // Against the attention of trainings, in TensorFlow's own ops.
      bothWays(instructionSet, dtype, (kernels) => {
        if (kernels.library !== 'tensorflow') return [concat(read(kernels, [0, 1, 2, 3], inPieces), 0)];
        const qkv = concat(
          texts.map(({ length, name }) => numbers([length, width], name, dtype, 2)),
          0,
        );
        return [
          attentionOf(
            kernels,
            texts.map(({ length }) => length),
            settings,
            dtype,
          ).forward(qkv, settings, false).output,
        ];
      });
      scope(() => {
        const kernels = chooseKernels('fused', { instructionSet });
        for (const [text, together] of read(kernels, [0, 1, 2, 3], inPieces, true).entries()) {
          const [alone] = read(kernels, [text], [[texts[text]!.length]], true);
          expect(toFloat32Array(alone!), 'the same bits alone and at once').toEqual(toFloat32Array(together));
        }
      });
    });

    test('a text in a cache reads nothing of another: not a NaN of one beside it, nor of one before it', () => {
      const settings: AttentionSettings = {
        ...{ heads: 4, keyValueHeads: 2, headDim: 16, scale: 0.25 },
        ...{ window: null, softcap: null },
      };
      const kernels = chooseKernels('fused', { instructionSet });
      scope(() => {
        const own = numbers([50, 128], 'qkv', dtype, 2);
        const broken = cast(tensorOf(new Float32Array(70 * 128).fill(Number.NaN), [70, 128]), dtype);
        const [expected] = attendInSteps(kernels, [own], [[50]], settings, dtype);
        const [, beside] = attendInSteps(
          kernels,
          [broken, own],
          [
            [40, 40],
            [30, 10],
          ],
          settings,
          dtype,
        );
        const [, after] = attendInSteps(
          kernels,
          [broken, own],
          [
            [70, 0],
            [0, 50],
          ],
          settings,
          dtype,
          { samePages: true },
        );
        expect(toFloat32Array(beside!)).toEqual(toFloat32Array(expected!));
        expect(toFloat32Array(after!)).toEqual(toFloat32Array(expected!));
      });
    });

    // Longer than a block of keys, and with query heads that are split over the threads.
    test.each(KINDS)('attention of one long row, window $window, softcap $softcap, sinks $hasSinks', (kind) => {
      const settings = withSinks({ heads: 6, keyValueHeads: 2, headDim: 8, ...kind, scale: 0.4 });
      bothWays(instructionSet, dtype, (kernels) => {
        const attention = attentionOf(kernels, [613], settings, dtype);
        const { output, saved } = attention.forward(numbers([613, 80], 'qkv', dtype, 2), settings, true);
        return [output, attention.backward(numbers([613, 48], 'gradient', dtype), saved!, settings)];
      });
    });
  });

  describe('AdamW', () => {
    const count = 40_003;
    const update = (changed: Partial<AdamWStep>, hasFactors: boolean) => (kernels: KernelSet) => {
      const { adamW, squareSum } = kernels.of('float32');
      const gradient = numbers([count], 'gradient', 'float32', 3);
      const state = {
        parameters: numbers([count], 'parameters'),
        first: numbers([count], 'first', 'float32', 0.01),
        second: square(numbers([count], 'second', 'float32', 0.01)),
        rateFactors: hasFactors ? numbers([count], 'factors') : null,
      };
      const step = { ...ADAMW_STEP, ...changed };
      const { parameters, first, second } = adamW(state, gradient, squareSum(gradient, step.gradientScale), step);
      return [parameters, first, second];
    };

    test.each([
      ['no decay, one rate', { weightDecay: 0 }, false],
      ['decay, one rate', {}, false],
      ['no decay, rates of their own', { weightDecay: 0 }, true],
      ['decay, rates of their own', {}, true],
      ['a norm below the limit', { maxNorm: 1e6 }, false],
    ] as const)('%s: the same bits', (_, changed, hasFactors) => {
      bothWays(instructionSet, 'float32', update(changed, hasFactors), 0);
    });

    test.each([
      [1, false],
      [256, true],
      [40_003, false],
      [40_003, true],
    ])('moments in 8 bits of %i numbers, rates of their own %s: the same bits', (count, hasFactors) => {
      const compute = (kernels: KernelSet) => {
        const { adamW } = kernels.of('float32');
        let state: AdamWUpdate = {
          parameters: numbers([count], 'parameters'),
          first: zeroMoment(count),
          second: zeroMoment(count),
        };
        const rateFactors = hasFactors ? numbers([count], 'factors') : null;
        for (let step = 1; step <= 3; step++) {
          const gradient = numbers([count], `gradient ${step}`, 'float32', 3 / step);
          state = adamW({ ...state, rateFactors }, gradient, numbers([1], 'norm'), {
            ...ADAMW_STEP,
            maxNorm: null,
            step,
          });
        }
        return [state.parameters, cast(state.first, 'int32'), cast(state.second, 'int32')];
      };
      bothWays(instructionSet, 'float32', compute, 0);
    });

    test.each([1, 1023, 300_001])('the square sum of %i numbers', (size) => {
      const compute = (kernels: KernelSet) => [
        kernels.of('float32').squareSum(numbers([size], 'gradient', 'float32', 3), 1 / 47),
      ];
      bothWays(instructionSet, 'float32', compute, 1e-6);
    });

    test('clipped: the factor is rounded once, where the raw ops round each of its steps', () => {
      bothWays(instructionSet, 'float32', update({ maxNorm: 0.5 }, false), 1e-6);
    });
  });

  // A GPU's kernel cannot say so: see cross-entropy.test.ts.
  test.runIf(engine.kind === 'cpu')('a label that is not among the classes is rejected with a message', () => {
    const kernels = chooseKernels('fused', { instructionSet });
    const logits = numbers([2, 5], 'logits');
    const labels = tensorOf(Int32Array.of(1, 5), [2]);
    expect(() => kernels.of('float32').crossEntropy(logits, labels)).toThrow(/a label is not among the classes/);
    dispose([logits, labels]);
  });

  test('sizes of LoRA and AdamW that do not fit are rejected with a message', () => {
    const kernels = chooseKernels('fused', { instructionSet });
    const { layout } = LORA_LAYOUTS[0]!;
    const { loraWeights, loraGradient, adamW } = kernels.of('float32');
    const parameters = numbers([layout.offset + parametersOf(layout)], 'parameters');
    if (engine.kind === 'cpu') {
      const beyond = { ...layout, offset: layout.offset + 1 };
      expect(() => loraWeights(parameters, beyond, 'float32')).toThrow(/the group must lie in the parameters/);
      const overlapping = { ...layout, adapted: layout.adapted.map((one) => ({ ...one, firstRow: 0 })) };
      expect(() => loraWeights(parameters, overlapping, 'float32')).toThrow(/the layers must lie in the group/);
      expect(() => loraGradient(parameters, parameters, layout)).toThrow(/must have the shape of A/);
    }
    const group = LORA_PARTS[1]!;
    const [one, other] = group.parts.map((shape) => loraPart(kernels, group, shape, 'float32')) as [LoraPart, LoraPart];
    const stream = [numbers([101, 71], 'base'), numbers([101, 50], 'x')] as const;
    const forward =
      (...parts: LoraPart[]) =>
      () =>
        kernels.of('float32').loraForward(...stream, parts);
    expect(forward(other, one)).toThrow(/rows must ascend/);
    expect(forward(one, { ...other, rows: { first: 61, count: 41 } })).toThrow(/rows must ascend/);
    expect(forward({ ...one, layout: { ...one.layout, offset: 9 } })).toThrow(/must lie in the parameters/);
    expect(forward({ ...one, layout: { ...one.layout, adapted: one.layout.adapted.toReversed() } })).toThrow(
      /the layers must lie in the group/,
    );
    const { mergedWeight } = kernels.of('bfloat16');
    const base = numbers([layout.outFeatures, layout.inFeatures], 'base', 'bfloat16');
    const tokens = numbers([2, layout.inFeatures], 'tokens');
    const merge = (stored: DType[], dtype: FloatDType) => () =>
      mergedWeight(base, parameters, tokens, { layout, stored, dtype });
    expect(merge(['bfloat16'], 'bfloat16')).toThrow(/each layer must have the dtype of its file/);
    expect(merge(['float16', 'bfloat16', 'bfloat16'], 'bfloat16')).toThrow(/must hold the numbers of the files/);
    const [long, short] = [numbers([4], 'long'), numbers([3], 'short')];
    const state = { parameters: long, first: long, second: long, rateFactors: null };
    expect(() => adamW(state, short, numbers([1], 'sum'), ADAMW_STEP)).toThrow(/must be equally many/);
    const inBlocks = { ...state, first: zeroMoment(4), second: zeroMoment(257) };
    expect(() => adamW(inBlocks, long, numbers([1], 'sum'), ADAMW_STEP)).toThrow(/must be equally many/);
  });
}
