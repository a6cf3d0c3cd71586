import {
  type ActingAdapter,
  ALL_LAYERS,
  type Decoder,
  generateTexts,
  joinTokenBatches,
  LoraAdapter,
  type LoraTarget,
  tokenBatchOf,
} from '@lorasmith/models';
import { chooseKernels, type FloatDType, liveTensorCount, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { TESTED_KERNELS } from '../../../../test/usual-cases.js';
import { TINY_ARCHITECTURE, tinyDecoder } from '../../../models/test/tiny-decoder.js';
import { NextToken } from './next-token/next-token.js';
import { takeBatchLoss } from './objective.js';

/** Tokens 0, 7, 14, … of the vocabulary, from another one for each row; the first `prompt` are not trained. */
function rowOf(length: number, prompt: number, first: number) {
  return {
    ids: Int32Array.from({ length }, (_, i) => (first + 7 * i) % TINY_ARCHITECTURE.vocabSize),
    trained: Uint8Array.from({ length }, (_, i) => Number(i >= prompt)),
  };
}

/** Rows of different and of similar length, so that attention in raw ops takes rows of several owners together. */
const ROWS = {
  first: [rowOf(9, 3, 1), rowOf(21, 11, 2)],
  base: [rowOf(8, 2, 5)],
  second: [rowOf(4, 1, 3), rowOf(7, 2, 4), rowOf(20, 15, 6)],
};
const BATCHES = { first: tokenBatchOf(ROWS.first), base: tokenBatchOf(ROWS.base), second: tokenBatchOf(ROWS.second) };

/** float32: one stream or several, sums are made in another order. bfloat16: a few of its roundings. */
const TOLERANCE: Record<FloatDType, number> = { float32: 1e-5, bfloat16: 4 * 2 ** -8 };

describe.each(TESTED_KERNELS)('with %s kernels', (source) => {
  const kernels = chooseKernels(source);

  describe.each(['float32', 'bfloat16'] as const)('in %s', (dtype) => {
    let decoder: Decoder;
    let objective: NextToken;
    let first: LoraAdapter;
    let second: LoraAdapter;
    beforeEach(() => {
      decoder = tinyDecoder(kernels, dtype);
      objective = new NextToken(decoder);
      const named = (pattern: RegExp, rank: number, scale: number): LoraTarget[] =>
        decoder.groups
          .flatMap(({ modules }) => modules)
          .filter(({ name }) => pattern.test(name))
          .map(({ name }) => ({ name, rank, scale }));
      first = randomAdapter(named(/q_proj|v_proj|down_proj|lm_head/, 2, 1.5), 0.2, 1);
      second = randomAdapter(named(/layers\.1\..*(k_proj|o_proj|gate_proj|down_proj)|lm_head/, 5, 0.5), 0.4, 2);
    });
    afterEach(() => {
      first.dispose();
      second.dispose();
      decoder.dispose();
    });

    function randomAdapter(targets: readonly LoraTarget[], dropout: number, seed: number): LoraAdapter {
      const adapter = new LoraAdapter(decoder.groups, { targets, dropout, seed });
      const numbers = normalNumbers(adapter.parameterCount, seed).map((value) => 0.3 * value);
      adapter.setParameters(tensorOf(numbers, [numbers.length]));
      return adapter;
    }

    function gradientOf(adapter: LoraAdapter): Float32Array {
      const gradient = adapter.takeGradient();
      const numbers = toFloat32Array(gradient);
      gradient.dispose();
      return numbers;
    }

    /** The first adapter's rows, then the base's own, then the second adapter's. */
    function together() {
      const { batch, tokens } = joinTokenBatches([BATCHES.first, BATCHES.base, BATCHES.second]);
      const adapters: ActingAdapter[] = [
        { adapter: first, tokens: tokens[0], dropoutSeed: [3, 10] },
        { adapter: second, tokens: tokens[2], dropoutSeed: [4, 20] },
      ];
      return { batch, adapters };
    }
    const alone = {
      first: (): ActingAdapter[] => [{ adapter: first, dropoutSeed: [3, 10] }],
      second: (): ActingAdapter[] => [{ adapter: second, dropoutSeed: [4, 20] }],
    };

    test.each([0, ALL_LAYERS])(
      'each has the losses and gradients that it has alone, recomputed layers: %s',
      (recomputedLayers) => {
        const { batch, adapters } = together();
        takeBatchLoss(objective.lossAndGradients(batch, { adapters, recomputedLayers }));
        const gradients = [gradientOf(first), gradientOf(second)];
        const losses = objective.rowLosses(batch, { adapters });

        takeBatchLoss(objective.lossAndGradients(BATCHES.first, { adapters: alone.first(), recomputedLayers }));
        expect(differenceByLargest(gradients[0]!, gradientOf(first))).toBeLessThan(TOLERANCE[dtype]);
        takeBatchLoss(objective.lossAndGradients(BATCHES.second, { adapters: alone.second(), recomputedLayers }));
        expect(differenceByLargest(gradients[1]!, gradientOf(second))).toBeLessThan(TOLERANCE[dtype]);

        const expected = [
          ...objective.rowLosses(BATCHES.first, { adapters: alone.first() }),
          ...objective.rowLosses(BATCHES.base, { adapters: [] }),
          ...objective.rowLosses(BATCHES.second, { adapters: alone.second() }),
        ];
        expect(differenceByLargest(losses, expected)).toBeLessThan(TOLERANCE[dtype]);
        // They do differ from those of the base, and from each other's.
        expect(differenceByLargest(objective.rowLosses(batch, { adapters: [] }), expected)).toBeGreaterThan(0.01);
      },
    );

    test('a number that is not one stays with its adapter', () => {
      const broken = new Float32Array(first.parameterCount).fill(Number.NaN);
      first.setParameters(tensorOf(broken, [broken.length]));
      const { batch, adapters } = together();
      takeBatchLoss(objective.lossAndGradients(batch, { adapters }));
      expect(gradientOf(first).every(Number.isNaN)).toBe(true);
      const gradient = gradientOf(second);
      takeBatchLoss(objective.lossAndGradients(BATCHES.second, { adapters: alone.second() }));
      expect(differenceByLargest(gradient, gradientOf(second))).toBeLessThan(TOLERANCE[dtype]);
      const losses = objective.rowLosses(batch, { adapters });
      expect(losses.subarray(0, 2).every(Number.isNaN)).toBe(true);
      expect(losses.subarray(2).every(Number.isFinite)).toBe(true);
    });

    test('one that owns the whole stream by its range is the one that is given none, bit for bit', () => {
      const tokens = { first: 0, count: BATCHES.first.ids.length };
      const lossOf = (adapters: ActingAdapter[]) =>
        takeBatchLoss(objective.lossAndGradients(BATCHES.first, { adapters })).lossSum;
      const ranged = lossOf([{ ...alone.first()[0]!, tokens }]);
      const gradient = gradientOf(first);
      expect(lossOf(alone.first())).toBe(ranged);
      expect(gradientOf(first)).toEqual(gradient);
    });

    test('one without a label learns nothing', () => {
      const unlabelled = tokenBatchOf(ROWS.first.map(({ ids }) => ({ ids, trained: new Uint8Array(ids.length) })));
      const { batch, tokens } = joinTokenBatches([unlabelled, BATCHES.second]);
      const adapters = [
        { adapter: first, tokens: tokens[0] },
        { adapter: second, tokens: tokens[1] },
      ];
      takeBatchLoss(objective.lossAndGradients(batch, { adapters }));
      expect(gradientOf(first).every((value) => value === 0)).toBe(true);
      expect(gradientOf(second).some((value) => value !== 0)).toBe(true);
    });

    test('passes leave nothing alive', () => {
      const { batch, adapters } = together();
      const pass = () => {
        takeBatchLoss(objective.lossAndGradients(batch, { adapters }));
        takeBatchLoss(objective.lossAndGradients(batch, { adapters, recomputedLayers: ALL_LAYERS }));
        objective.rowLosses(batch, { adapters });
        gradientOf(first);
        gradientOf(second);
      };
      pass(); // makes the constants it needs
      const before = liveTensorCount();
      pass();
      expect(liveTensorCount()).toBe(before);
    });

    test('texts are continued with the adapter of each', () => {
      const prompts = [...ROWS.first, ...ROWS.base, ...ROWS.second].map(({ ids }) => ids);
      const owners = [first, first, null, second, second, second];
      const options = { maxNewTokens: 6, stopIds: [] };
      const expected = prompts.map(
        (prompt, i) => generateTexts(decoder, [prompt], { ...options, adapters: [owners[i]!] })[0],
      );
      expect(generateTexts(decoder, prompts, { ...options, adapters: owners })).toEqual(expected);
      expect(generateTexts(decoder, prompts, options)).not.toEqual(expected);
    });

    test('logits with an adapter are those its rows have alone', () => {
      const { batch, adapters } = together();
      const logitsOf = (stream: typeof batch, acting: readonly ActingAdapter[]) =>
        scope(() => toFloat32Array(decoder.logits(stream, acting)));
      const evaluated = adapters.map(({ adapter, tokens }) => ({ adapter, tokens }));
      const all = logitsOf(batch, evaluated);
      const own = logitsOf(BATCHES.first, [{ adapter: first }]);
      expect(greatestDifference(all.subarray(0, own.length), own)).toBeLessThan(10 * TOLERANCE[dtype]);
    });
  });
});

test('ranges that overlap, are out of order or reach beyond the stream are refused', () => {
  const decoder = tinyDecoder(chooseKernels('raw'));
  const adapter = new LoraAdapter(decoder.groups, {
    targets: [{ name: 'model.layers.0.self_attn.q_proj', rank: 1, scale: 1 }],
    dropout: 0,
    seed: 0,
  });
  const withRanges = (...ranges: [first: number, count: number][]) => {
    const adapters = ranges.map(([first, count]) => ({ adapter, tokens: { first, count } }));
    return () => scope(() => decoder.logits(BATCHES.base, adapters));
  };
  expect(withRanges([0, 4], [3, 2])).toThrow(RangeError);
  expect(withRanges([4, 4], [0, 2])).toThrow(RangeError);
  expect(withRanges([4, 5])).toThrow(RangeError);
  adapter.dispose();
  decoder.dispose();
});
