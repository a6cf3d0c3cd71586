import { beforeAll, describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { TESTED_KERNELS } from '../../../../test/usual-cases.js';
import { anglesOf, frequenciesOf } from '../../test/rotary-angles.js';
import { type FloatDType, liveTensorCount, scope } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import type { AttentionSettings, BatchAttention } from './attention.js';
import { chooseKernels, type KernelSet } from './kernel-table.js';

const HEAD_DIM = 4;
const THETA = 100;

function settingsOf(heads: number, keyValueHeads: number, further: Partial<AttentionSettings> = {}): AttentionSettings {
  const scale = 1 / Math.sqrt(HEAD_DIM);
  return { heads, keyValueHeads, headDim: HEAD_DIM, scale, window: null, softcap: null, ...further };
}
const widthsOf = ({ heads, keyValueHeads }: AttentionSettings) => {
  return { qkv: (heads + 2 * keyValueHeads) * HEAD_DIM, output: heads * HEAD_DIM };
};
function attentionOf(
  kernels: KernelSet,
  lengths: number[],
  { heads, window }: AttentionSettings,
  dtype: FloatDType = 'float32',
): BatchAttention {
  const angles = anglesOf(Math.max(...lengths), HEAD_DIM, THETA);
  return kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
}
const total = (rowLengths: readonly number[]) => rowLengths.reduce((sum, length) => sum + length, 0);

function computed(
  kernels: KernelSet,
  qkv: Float32Array<ArrayBuffer>,
  rowLengths: number[],
  settings: AttentionSettings,
  dtype: FloatDType = 'float32',
): Float32Array {
  return scope(() => {
    const attention = attentionOf(kernels, rowLengths, settings, dtype);
    const stream = cast(tensorOf(qkv, [total(rowLengths), widthsOf(settings).qkv]), dtype);
    const { output, saved } = attention.forward(stream, settings, false);
    expect(saved).toBeNull();
    expect(output).toMatchObject({ dtype, shape: [total(rowLengths), widthsOf(settings).output] });
    return toFloat32Array(output);
  });
}

function gradientComputed(
  kernels: KernelSet,
  byOutput: Float32Array<ArrayBuffer>,
  qkv: Float32Array<ArrayBuffer>,
  rowLengths: number[],
  settings: AttentionSettings,
  dtype: FloatDType = 'float32',
): Float32Array {
  const { qkv: width, output: outputWidth } = widthsOf(settings);
  const tokens = total(rowLengths);
  return scope(() => {
    const attention = attentionOf(kernels, rowLengths, settings, dtype);
    const { saved } = attention.forward(cast(tensorOf(qkv, [tokens, width]), dtype), settings, true);
    const gradient = cast(tensorOf(byOutput, [tokens, outputWidth]), dtype);
    const result = attention.backward(gradient, saved!, settings);
    expect(result).toMatchObject({ dtype, shape: [tokens, width] });
    return toFloat32Array(result);
  });
}

/** Attention as its definition has it, one row, head and query at a time, in float64. */
function plain(qkv: Float32Array, rowLengths: number[], settings: AttentionSettings): Float64Array {
  const { heads, keyValueHeads, scale, window, softcap } = settings;
  const sinks = settings.sinks && toFloat32Array(settings.sinks);
  const frequencies = frequenciesOf(HEAD_DIM, THETA);
  const { qkv: width, output: outputWidth } = widthsOf(settings);
  const half = HEAD_DIM / 2;
  const head = (token: number, index: number) => {
    return [...qkv.subarray(token * width + index * HEAD_DIM, token * width + (index + 1) * HEAD_DIM)];
  };
  const rotated = (values: number[], position: number) =>
    values.map((value, i) => {
      const angle = position * frequencies[i % half]!;
      return value * Math.cos(angle) + (i < half ? -values[i + half]! : values[i - half]!) * Math.sin(angle);
    });
  const output = new Float64Array(total(rowLengths) * outputWidth);
  let start = 0;
  for (const length of rowLengths) {
    for (let query = 0; query < length; query++) {
      for (let index = 0; index < heads; index++) {
        const shared = Math.floor(index / (heads / keyValueHeads));
        const own = rotated(head(start + query, index), query);
        const powers = Array.from({ length: query + 1 }, (_, key) => {
          if (window !== null && key <= query - window) return 0;
          const score = scale * weightedSum(own, rotated(head(start + key, heads + shared), key));
          return Math.exp(softcap === null ? score : softcap * Math.tanh(score / softcap));
        });
        const sum = powers.reduce((all, power) => all + power, sinks === undefined ? 0 : Math.exp(sinks[index]!));
        for (const [key, power] of powers.entries()) {
          const value = head(start + key, heads + keyValueHeads + shared);
          for (let i = 0; i < HEAD_DIM; i++) {
            output[(start + query) * outputWidth + index * HEAD_DIM + i]! += (power / sum) * value[i]!;
          }
        }
      }
    }
    start += length;
  }
  return output;
}

/** Up to a logit that most scores are far below. */
const sinksOf = (...logits: number[]) => ({ sinks: tensorOf(Float32Array.from(logits), [logits.length]) });

const CASES: [name: string, rowLengths: number[], settings: AttentionSettings][] = [
  ['one row, a key to each query', [5], settingsOf(2, 2)],
  ['rows of one length, three queries to a key', [4, 4], settingsOf(6, 2)],
  ['rows of different lengths, padded', [7, 5, 1, 2], settingsOf(4, 2)],
  ['rows so different that they are computed apart', [36, 9, 8], settingsOf(2, 1)],
  ['a sliding window', [9, 4], settingsOf(2, 1, { window: 3 })],
  ['capped scores', [6, 4], settingsOf(2, 1, { softcap: 1.5 })],
  ['sinks', [7, 4, 1], settingsOf(4, 2, sinksOf(-3, 0, 1.5, 5))],
  ['sinks and a sliding window', [9, 4], settingsOf(2, 1, { window: 3, ...sinksOf(5, -1) })],
];

const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];

/** Output and gradient of each row are those that it has alone: bit for bit where the kernels are our own. */
function expectRowsAlone(
  kernels: KernelSet,
  rowLengths: number[],
  settings: AttentionSettings,
  dtype: FloatDType,
): void {
  const widths = widthsOf(settings);
  const qkv = normalNumbers(total(rowLengths) * widths.qkv, 1);
  const byOutput = normalNumbers(total(rowLengths) * widths.output, 2);
  const most = kernels.library !== 'tensorflow' ? 0 : dtype === 'float32' ? 1e-5 : 8 * 2 ** -8;
  const together = computed(kernels, qkv, rowLengths, settings, dtype);
  const togetherGradient = gradientComputed(kernels, byOutput, qkv, rowLengths, settings, dtype);
  let start = 0;
  for (const length of rowLengths) {
    const end = start + length;
    const own = qkv.slice(start * widths.qkv, end * widths.qkv);
    const ownByOutput = byOutput.slice(start * widths.output, end * widths.output);
    const output = together.subarray(start * widths.output, end * widths.output);
    expect(greatestDifference(computed(kernels, own, [length], settings, dtype), output)).toBeLessThanOrEqual(most);
    const gradient = togetherGradient.subarray(start * widths.qkv, end * widths.qkv);
    const alone = gradientComputed(kernels, ownByOutput, own, [length], settings, dtype);
    expect(greatestDifference(alone, gradient)).toBeLessThanOrEqual(most);
    start = end;
  }
}

describe.each(TESTED_KERNELS)('%s kernels', (source) => {
  const kernels = chooseKernels(source);
  beforeAll(() => {
    if (source === 'fused') expect(kernels.library, 'npm test compiles the fused library').not.toBe('tensorflow');
  });

  describe.each(CASES)('%s', (_, rowLengths, settings) => {
    const widths = widthsOf(settings);
    const qkv = normalNumbers(total(rowLengths) * widths.qkv, 1);
    const byOutput = normalNumbers(total(rowLengths) * widths.output, 2);

    test('is what the definition says', () => {
      const expected = plain(qkv, rowLengths, settings);
      expect(greatestDifference(computed(kernels, qkv, rowLengths, settings), expected)).toBeLessThan(1e-5);
    });

    test('has the gradient that finite differences have', () => {
      const numeric = centralDifferences((x) => weightedSum(computed(kernels, x, rowLengths, settings), byOutput), qkv);
      const gradient = gradientComputed(kernels, byOutput, qkv, rowLengths, settings);
      expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    });

    test.each(DTYPES)('rows do not see each other in %s: alone each is the same', (dtype) => {
      expectRowsAlone(kernels, rowLengths, settings, dtype);
    });

    // Query, key, weights and output are rounded, each by at most 2⁻⁸ of a number; the gradient passes twice as many.
    test('in bfloat16 is as near as its rounding allows', () => {
      const expected = computed(kernels, qkv, rowLengths, settings);
      expect(differenceByLargest(computed(kernels, qkv, rowLengths, settings, 'bfloat16'), expected)).toBeLessThan(
        4 * 2 ** -8,
      );
      const gradient = gradientComputed(kernels, byOutput, qkv, rowLengths, settings);
      const rounded = gradientComputed(kernels, byOutput, qkv, rowLengths, settings, 'bfloat16');
      expect(differenceByLargest(rounded, gradient)).toBeLessThan(8 * 2 ** -8);
    });
  });

  test.each(DTYPES)(
    'so many rows in %s that query heads are divided among threads only where a row is alone',
    (dtype) => {
      expectRowsAlone(kernels, Array(40).fill(3), settingsOf(6, 2), dtype);
    },
  );

  test('a sink far above the scores takes all of the weight, and one far below them none', () => {
    const settings = settingsOf(2, 1, sinksOf(1000, -1000));
    const qkv = normalNumbers(9 * widthsOf(settings).qkv, 6);
    const output = computed(kernels, qkv, [9], settings);
    const without = computed(kernels, qkv, [9], { ...settings, sinks: undefined });
    for (const [i, value] of output.entries()) {
      expect(value).toBe(i % (2 * HEAD_DIM) < HEAD_DIM ? 0 : without[i]);
    }
  });

  test('large scores do not overflow', () => {
    const settings = settingsOf(2, 1);
    const qkv = normalNumbers(40 * widthsOf(settings).qkv, 3).map((value) => value * 100);
    expect(computed(kernels, qkv, [40], settings).every(Number.isFinite)).toBe(true);
    const byOutput = normalNumbers(40 * widthsOf(settings).output, 4);
    expect(gradientComputed(kernels, byOutput, qkv, [40], settings).every(Number.isFinite)).toBe(true);
  });

  test('backward frees what was saved, and the scope the rest', () => {
    const settings = settingsOf(4, 2);
    const rowLengths = [7, 5, 40, 33];
    const qkv = normalNumbers(total(rowLengths) * widthsOf(settings).qkv, 4);
    const byOutput = normalNumbers(total(rowLengths) * widthsOf(settings).output, 5);
    gradientComputed(kernels, byOutput, qkv, rowLengths, settings); // makes the constants it needs
    const before = liveTensorCount();
    scope(() => {
      const attention = attentionOf(kernels, rowLengths, settings);
      const stream = tensorOf(qkv, [total(rowLengths), widthsOf(settings).qkv]);
      const gradient = tensorOf(byOutput, [total(rowLengths), widthsOf(settings).output]);
      const held = liveTensorCount();
      const { output, saved } = attention.forward(stream, settings, true);
      const result = attention.backward(gradient, saved!, settings);
      output.dispose();
      expect(result.disposed).toBe(false);
      expect(liveTensorCount()).toBe(held + 1);
    });
    expect(liveTensorCount()).toBe(before);
  });
});
