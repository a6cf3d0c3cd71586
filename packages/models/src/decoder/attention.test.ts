import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { cast, type FloatDType, liveTensorCount, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { TINY_ARCHITECTURE } from '../../test/tiny-decoder.js';
import { attention, attentionGradient, attentionSettings, layoutRows } from './attention.js';
import { Rotary, rotaryFrequencies } from './rotary.js';

const architectureOf = (headCount: number, keyValueHeadCount: number): DecoderArchitecture => {
  return { ...TINY_ARCHITECTURE, headCount, keyValueHeadCount, headDim: 4 };
};
const widthsOf = ({ headCount, keyValueHeadCount, headDim }: DecoderArchitecture) => {
  return { qkv: (headCount + 2 * keyValueHeadCount) * headDim, output: headCount * headDim };
};
const total = (rowLengths: readonly number[]) => rowLengths.reduce((sum, length) => sum + length, 0);

function computed(
  qkv: Float32Array<ArrayBuffer>,
  rowLengths: number[],
  architecture: DecoderArchitecture,
  dtype: FloatDType = 'float32',
): Float32Array {
  return scope(() => {
    const layout = layoutRows(rowLengths, new Rotary(architecture));
    const stream = cast(tensorOf(qkv, [total(rowLengths), widthsOf(architecture).qkv]), dtype);
    const { output, saved } = attention(stream, layout, attentionSettings(architecture), false);
    expect(saved).toBeNull();
    expect(output).toMatchObject({ dtype, shape: [total(rowLengths), widthsOf(architecture).output] });
    return toFloat32Array(output);
  });
}

function gradientComputed(
  byOutput: Float32Array<ArrayBuffer>,
  qkv: Float32Array<ArrayBuffer>,
  rowLengths: number[],
  architecture: DecoderArchitecture,
  dtype: FloatDType = 'float32',
): Float32Array {
  const { qkv: width, output: outputWidth } = widthsOf(architecture);
  const tokens = total(rowLengths);
  return scope(() => {
    const layout = layoutRows(rowLengths, new Rotary(architecture));
    const { saved } = attention(
      cast(tensorOf(qkv, [tokens, width]), dtype),
      layout,
      attentionSettings(architecture),
      true,
    );
    const gradient = cast(tensorOf(byOutput, [tokens, outputWidth]), dtype);
    const result = attentionGradient(gradient, saved!, layout, attentionSettings(architecture));
    expect(result).toMatchObject({ dtype, shape: [tokens, width] });
    return toFloat32Array(result);
  });
}

/** Attention as its definition has it, one row, head and query at a time, in float64. */
function plain(qkv: Float32Array, rowLengths: number[], architecture: DecoderArchitecture): Float64Array {
  const { headCount, keyValueHeadCount, headDim } = architecture;
  const frequencies = rotaryFrequencies(architecture.rope, headDim);
  const { qkv: width, output: outputWidth } = widthsOf(architecture);
  const half = headDim / 2;
  const head = (token: number, index: number) => {
    return [...qkv.subarray(token * width + index * headDim, token * width + (index + 1) * headDim)];
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
      for (let index = 0; index < headCount; index++) {
        const shared = Math.floor(index / (headCount / keyValueHeadCount));
        const own = rotated(head(start + query, index), query);
        const powers = Array.from({ length: query + 1 }, (_, key) => {
          const other = rotated(head(start + key, headCount + shared), key);
          return Math.exp(weightedSum(own, other) / Math.sqrt(headDim));
        });
        const sum = powers.reduce((all, power) => all + power, 0);
        for (const [key, power] of powers.entries()) {
          const value = head(start + key, headCount + keyValueHeadCount + shared);
          for (let i = 0; i < headDim; i++) {
            output[(start + query) * outputWidth + index * headDim + i]! += (power / sum) * value[i]!;
          }
        }
      }
    }
    start += length;
  }
  return output;
}

const CASES: [name: string, rowLengths: number[], headCount: number, keyValueHeadCount: number][] = [
  ['one row, a key to each query', [5], 2, 2],
  ['rows of one length, three queries to a key', [4, 4], 6, 2],
  ['rows of unlike length, padded', [7, 5, 1, 2], 4, 2],
  ['rows so unlike that they are computed apart', [40, 33, 9, 8], 2, 1],
];

describe.each(CASES)('%s', (_, rowLengths, headCount, keyValueHeadCount) => {
  const architecture = architectureOf(headCount, keyValueHeadCount);
  const widths = widthsOf(architecture);
  const qkv = normalNumbers(total(rowLengths) * widths.qkv, 1);
  const byOutput = normalNumbers(total(rowLengths) * widths.output, 2);

  test('is what the definition says', () => {
    const expected = plain(qkv, rowLengths, architecture);
    expect(greatestDifference(computed(qkv, rowLengths, architecture), expected)).toBeLessThan(1e-5);
  });

  test('has the gradient that finite differences have', () => {
    const numeric = centralDifferences((x) => weightedSum(computed(x, rowLengths, architecture), byOutput), qkv);
    const gradient = gradientComputed(byOutput, qkv, rowLengths, architecture);
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('rows do not see each other: one at a time gives the same', () => {
    const together = computed(qkv, rowLengths, architecture);
    const togetherGradient = gradientComputed(byOutput, qkv, rowLengths, architecture);
    let start = 0;
    for (const length of rowLengths) {
      const end = start + length;
      const own = qkv.slice(start * widths.qkv, end * widths.qkv);
      const ownByOutput = byOutput.slice(start * widths.output, end * widths.output);
      const output = together.subarray(start * widths.output, end * widths.output);
      const gradient = togetherGradient.subarray(start * widths.qkv, end * widths.qkv);
      expect(greatestDifference(computed(own, [length], architecture), output)).toBeLessThan(1e-5);
      const alone = gradientComputed(ownByOutput, own, [length], architecture);
      expect(greatestDifference(alone, gradient)).toBeLessThan(1e-5);
      start = end;
    }
  });

  // Query, key, weights and output are rounded, each by at most 2⁻⁸ of a number; the gradient passes twice as many.
  test('in bfloat16 is as near as its rounding allows', () => {
    const expected = computed(qkv, rowLengths, architecture);
    expect(differenceByLargest(computed(qkv, rowLengths, architecture, 'bfloat16'), expected)).toBeLessThan(
      4 * 2 ** -8,
    );
    const gradient = gradientComputed(byOutput, qkv, rowLengths, architecture);
    const rounded = gradientComputed(byOutput, qkv, rowLengths, architecture, 'bfloat16');
    expect(differenceByLargest(rounded, gradient)).toBeLessThan(8 * 2 ** -8);
  });
});

test('large scores do not overflow', () => {
  const architecture = architectureOf(2, 1);
  const qkv = normalNumbers(40 * widthsOf(architecture).qkv, 3).map((value) => value * 100);
  const expected = plain(qkv.map((value) => value / 100) as Float32Array, [40], architecture);
  expect(expected.every(Number.isFinite)).toBe(true);
  expect(computed(qkv, [40], architecture).every(Number.isFinite)).toBe(true);
});

test('backward frees what was saved, and the scope the rest', () => {
  const architecture = architectureOf(4, 2);
  const rowLengths = [7, 5, 40, 33];
  const qkv = normalNumbers(total(rowLengths) * widthsOf(architecture).qkv, 4);
  const byOutput = normalNumbers(total(rowLengths) * widthsOf(architecture).output, 5);
  gradientComputed(byOutput, qkv, rowLengths, architecture); // makes the constants it needs
  const before = liveTensorCount();
  scope(() => {
    const layout = layoutRows(rowLengths, new Rotary(architecture));
    const stream = tensorOf(qkv, [total(rowLengths), widthsOf(architecture).qkv]);
    const gradient = tensorOf(byOutput, [total(rowLengths), widthsOf(architecture).output]);
    const held = liveTensorCount();
    const { output, saved } = attention(stream, layout, attentionSettings(architecture), true);
    const result = attentionGradient(gradient, saved!, layout, attentionSettings(architecture));
    output.dispose();
    expect(result.disposed).toBe(false);
    expect(liveTensorCount()).toBe(held + 1);
  });
  expect(liveTensorCount()).toBe(before);
});
