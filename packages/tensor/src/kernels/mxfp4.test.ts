import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import type { FloatDType } from '../dtype.js';
import { reshape } from '../layout.js';
import { seededBytes, seededTensor } from '../numeric-cases/seeded-inputs.js';
import { scope, type Tensor } from '../tensor.js';
import { tensorOfBytes, toFloat32Array } from '../transfer.js';
import { type InstructionSet, processorRuns } from './fused-library.js';
import { rowSections } from './grouped-product.js';
import { configureKernels, kernelsFor } from './kernel-table.js';
import { Mxfp4Matrices } from './mxfp4.js';

const EXPECTED = new URL('../../../../test/fixtures/quantized/mxfp4.json', import.meta.url);
const SETS: readonly InstructionSet[] = ['generic', 'avx2', 'avx512', 'avx512bf16'];
const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];

afterAll(() => void configureKernels('raw'));

/** All bytes in each row, and one scale in all of its blocks: those from `first` to `last`. */
function allNumbers(first: number, last: number): Mxfp4Matrices {
  const rows = last - first + 1;
  const codes = Uint8Array.from({ length: rows * 256 }, (_, i) => i % 256);
  const scales = Uint8Array.from({ length: rows * 16 }, (_, i) => first + Math.floor(i / 16));
  return new Mxfp4Matrices(
    [1, rows, 512],
    tensorOfBytes(codes, [codes.length], 'uint8'),
    tensorOfBytes(scales, [scales.length], 'uint8'),
  );
}

/** The digest of float32 numbers; those of bfloat16 are among them. */
function digestOf(numbers: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength))
    .digest('hex');
}

describe.each(['raw', 'fused'] as const)('%s kernels', (source) => {
  test.each(DTYPES)('all numbers at all scales are those of transformers, bit for bit, in %s', (dtype) => {
    const { first, last, sha256 } = JSON.parse(readFileSync(EXPECTED, 'utf8')) as {
      first: number;
      last: number;
      sha256: Record<FloatDType, string>;
    };
    configureKernels(source);
    scope(() => {
      const matrices = allNumbers(first, last);
      const rows = last - first + 1;
      const decoded = kernelsFor(dtype).dequantizeRows(matrices, 0, rows, dtype);
      expect(digestOf(toFloat32Array(decoded))).toBe(sha256[dtype]);
      const some = kernelsFor(dtype).dequantizeRows(matrices, rows - 2, 2, dtype);
      expect(toFloat32Array(some)).toEqual(toFloat32Array(decoded).slice(-2 * 512));
    });
  });
});

/** Groups without rows, with one, and more than a tile; and a depth of more than one chunk. */
const SHAPES = [
  { counts: [0, 1, 17, 0, 65, 0], depth: 96, columns: 64 },
  { counts: [13, 40], depth: 3232, columns: 45 },
];

describe.each(SETS.filter(processorRuns))('the library for %s', (instructionSet) => {
  test.each(DTYPES.flatMap((dtype) => SHAPES.map((shape) => ({ dtype, ...shape }))))(
    'a product of experts in MXFP4 has the bits of one with decoded experts: $dtype, $counts of $depth',
    ({ dtype, counts, depth, columns: outFeatures }) => {
      configureKernels('fused', { instructionSet });
      const rowsOf = (x: Tensor) => toFloat32Array(x);
      scope(() => {
        const { groupedMxfp4Product, groupedProduct, dequantizeRows } = kernelsFor(dtype);
        const numbers = counts.length * outFeatures * depth;
        const scales = seededBytes(numbers / 32, 2, (byte) => 120 + (byte % 8));
        const weights = new Mxfp4Matrices([counts.length, outFeatures, depth], seededBytes(numbers / 2, 1), scales);
        const decoded = reshape(dequantizeRows(weights, 0, counts.length * outFeatures, dtype), [
          ...[counts.length, outFeatures, depth],
        ]);
        const offsets = new Int32Array(counts.length + 1);
        for (const [group, count] of counts.entries()) offsets[group + 1] = offsets[group]! + count;
        const sections = rowSections(offsets);
        const rows = offsets.at(-1)!;
        const x = seededTensor([rows, depth], 3, dtype);
        const gradient = seededTensor([rows, outFeatures], 4, dtype);
        expect(rowsOf(groupedMxfp4Product(x, weights, sections, true))).toEqual(
          rowsOf(groupedProduct(x, decoded, sections, true)),
        );
        expect(rowsOf(groupedMxfp4Product(gradient, weights, sections, false))).toEqual(
          rowsOf(groupedProduct(gradient, decoded, sections, false)),
        );
      });
    },
  );
});

test('rows that are not whole blocks are refused', () => {
  scope(() => {
    const codes = tensorOfBytes(new Uint8Array(24), [24], 'uint8');
    expect(() => new Mxfp4Matrices([1, 1, 48], codes, codes)).toThrow('48 numbers');
  });
});
