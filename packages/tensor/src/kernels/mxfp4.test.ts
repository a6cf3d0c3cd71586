import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type FloatDType, scope } from '../tensor.js';
import { tensorOfBytes, toFloat32Array } from '../transfer.js';
import { chooseKernels } from './kernel-table.js';
import { Mxfp4Matrices } from './mxfp4.js';

const EXPECTED = new URL('../../../../test/fixtures/quantized/mxfp4.json', import.meta.url);
const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];

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
  const kernels = chooseKernels(source);
  test.each(DTYPES)('all numbers at all scales are those of transformers, bit for bit, in %s', (dtype) => {
    const { first, last, sha256 } = JSON.parse(readFileSync(EXPECTED, 'utf8')) as {
      first: number;
      last: number;
      sha256: Record<FloatDType, string>;
    };
    scope(() => {
      const matrices = allNumbers(first, last);
      const rows = last - first + 1;
      const decoded = kernels.of(dtype).dequantizeRows(matrices, 0, rows, dtype);
      expect(digestOf(toFloat32Array(decoded))).toBe(sha256[dtype]);
      const some = kernels.of(dtype).dequantizeRows(matrices, rows - 2, 2, dtype);
      expect(toFloat32Array(some)).toEqual(toFloat32Array(decoded).slice(-2 * 512));
    });
  });
});

test('rows that are not whole blocks are refused', () => {
  scope(() => {
    const codes = tensorOfBytes(new Uint8Array(24), [24], 'uint8');
    expect(() => new Mxfp4Matrices([1, 1, 48], codes, codes)).toThrow('48 numbers');
  });
});
