import './emulated-gpu.js';
import { expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { type PackedMatrix, quantizedProductInPieces, rawDequantizeRows } from '../src/kernels/packed-matrix.js';
import { QuantizedMatrix } from '../src/kernels/quantized.js';
import { ScaledMatrix } from '../src/kernels/scaled.js';
import { type FloatDType, scope, type Tensor } from '../src/tensor.js';
import { cast, tensorOf, tensorOfBytes, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('fused');

const bytes = (count: number, seed: number) =>
  Uint8Array.from(normalNumbers(count, seed), (value) => Math.abs(Math.round(value * 100)) % 256);

/** Two modules with double quantization; or one, whose blocks cross rows where the columns are no multiple of 64. */
function matrixOf(columns: number, rows: readonly number[]): QuantizedMatrix {
  const numbers = columns * rows.reduce((sum, count) => sum + count, 0);
  const blocks = Math.ceil(numbers / 64);
  const codes = bytes(Math.ceil(numbers / 2), 1);
  const modules = rows.map((count, i) => ({
    rows: count,
    values: normalNumbers(16, 10 + i),
    nested: { values: normalNumbers(256, 20 + i), offset: 0.1 * (i + 1) },
  }));
  return new QuantizedMatrix(columns, modules, {
    codes: tensorOfBytes(codes, [codes.length], 'uint8'),
    scales: tensorOfBytes(bytes(blocks, 2), [blocks], 'uint8'),
    nestedScales: tensorOf(normalNumbers(rows.length + blocks, 3), [rows.length + blocks]),
  });
}

/** Two modules in 8 bits, without NaN. */
function scaledMatrixOf(columns: number, rows: readonly number[], block: readonly [number, number]): ScaledMatrix {
  const all = rows.reduce((sum, count) => sum + count, 0);
  const codes = Uint8Array.from({ length: all * columns }, (_, i) => ((i * 37) % 127) + 128 * (i % 2));
  const modules = rows.map((count, i) => {
    const blocks = Math.ceil(count / block[0]) * Math.ceil(columns / block[1]);
    return { rows: count, blockRows: block[0], scales: normalNumbers(blocks, 30 + i).map(Math.abs) };
  });
  return new ScaledMatrix(columns, block[1], modules, tensorOfBytes(codes, [codes.length], 'uint8'));
}

const bytesOf = (tensor: Tensor) => Buffer.from(toFloat32Array(tensor).buffer);

const DECODED: [string, () => PackedMatrix][] = [
  ['4 bits in rows of whole blocks', () => matrixOf(128, [70, 33])],
  ['4 bits in blocks that cross rows', () => matrixOf(37, [9])],
  ['8 bits in rows of whole blocks', () => scaledMatrixOf(128, [70, 33], [32, 64])],
  ['8 bits with short blocks', () => scaledMatrixOf(37, [9, 3], [4, 32])],
  ['8 bits with one block', () => scaledMatrixOf(100, [9], [9, 100])],
];
test.each(DECODED)('%s are decoded to the bits of plain ops', (_, make) => {
  scope(() => {
    const matrix = make();
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const decoded = kernels.of(dtype).dequantizeRows(matrix, 0, matrix.rows, dtype);
      const expected = rawDequantizeRows(matrix, 0, matrix.rows, dtype);
      expect(Buffer.compare(bytesOf(decoded), bytesOf(expected))).toBe(0);
    }
    matrix.dispose();
  });
});

/** Whole numbers, of which a float32 sum has all digits, whatever its order. */
const wholeNumbers = (count: number, seed: number) =>
  normalNumbers(count, seed).map((number) => Math.round(number * 2));

/** A {@link matrixOf} whole numbers. */
function wholeMatrixOf(columns: number, rows: readonly number[], isNested: boolean): QuantizedMatrix {
  const numbers = columns * rows.reduce((sum, count) => sum + count, 0);
  const blocks = numbers / 64;
  const codes = bytes(numbers / 2, 1);
  const modules = rows.map((count, i) => ({
    rows: count,
    values: wholeNumbers(16, 10 + i),
    nested: isNested ? { values: wholeNumbers(256, 20 + i), offset: i + 1 } : null,
  }));
  const scales = Uint8Array.from(new Uint8Array(wholeNumbers(blocks, 2).buffer));
  return new QuantizedMatrix(columns, modules, {
    codes: tensorOfBytes(codes, [codes.length], 'uint8'),
    scales: isNested ? tensorOfBytes(bytes(blocks, 2), [blocks], 'uint8') : tensorOfBytes(scales, [blocks, 4], 'uint8'),
    nestedScales: isNested ? tensorOf(wholeNumbers(rows.length + blocks, 3), [rows.length + blocks]) : null,
  });
}

function wholeScaledMatrixOf(columns: number, rows: readonly number[], block: readonly [number, number]): ScaledMatrix {
  const all = rows.reduce((sum, count) => sum + count, 0);
  // 0, ±1, ±2 and ±4 in E4M3.
  const codes = Uint8Array.from(bytes(all * columns, 4), (byte) => [0, 56, 64, 72, 128, 184, 192, 200][byte % 8]!);
  const modules = rows.map((count, i) => {
    const blocks = Math.ceil(count / block[0]) * Math.ceil(columns / block[1]);
    return { rows: count, blockRows: block[0], scales: wholeNumbers(blocks, 30 + i) };
  });
  return new ScaledMatrix(columns, block[1], modules, tensorOfBytes(codes, [codes.length], 'uint8'));
}

const launchesOf = (kernel: string) => engine.cuda!.statistics().kernels[kernel] ?? 0;

const FEW: [string, string, () => PackedMatrix][] = [
  ['4 bits', 'QuantizedFewRows', () => wholeMatrixOf(192, [70, 133], false)],
  ['4 bits with quantized scales', 'QuantizedFewRows', () => wholeMatrixOf(640, [70, 33], true)],
  ['8 bits', 'ScaledFewRows', () => wholeScaledMatrixOf(192, [70, 133], [32, 64])],
  ['8 bits with one scale', 'ScaledFewRows', () => wholeScaledMatrixOf(640, [9], [9, 640])],
];
test.each(FEW)('few rows times weights in %s are multiplied without decoding them to memory', (_, name, make) => {
  scope(() => {
    const matrix = make();
    const { quantizedProduct, dequantizeRows } = kernels.of('bfloat16');
    const decoded = dequantizeRows(matrix, 0, matrix.rows, 'bfloat16');
    for (const [tokens, kernel] of [
      [1, 8],
      [8, 8],
      [9, 16],
      [16, 16],
    ] as const) {
      const x = cast(tensorOf(wholeNumbers(tokens * matrix.columns, 5), [tokens, matrix.columns]), 'bfloat16');
      const before = launchesOf(`${name}${kernel}`);
      const product = quantizedProduct(x, matrix, true);
      expect(launchesOf(`${name}${kernel}`)).toBe(before + 1);
      expect(Buffer.compare(bytesOf(product), bytesOf(kernels.matMul(x, decoded, { transposeB: true })))).toBe(0);
    }
    matrix.dispose();
  });
});

test.each(
  (['float32', 'bfloat16'] as FloatDType[]).flatMap((dtype) => [
    { dtype, bits: 4, make: (): PackedMatrix => matrixOf(192, [70, 133]) },
    { dtype, bits: 8, make: (): PackedMatrix => scaledMatrixOf(192, [70, 133], [32, 64]) },
  ]),
)('products in $dtype are those of decoded weights in $bits bits', ({ dtype, make }) => {
  scope(() => {
    const matrix = make();
    const { quantizedProduct, dequantizeRows } = kernels.of(dtype);
    const decoded = dequantizeRows(matrix, 0, matrix.rows, dtype);
    // Few rows in bfloat16 have sums in another order: see above.
    for (const tokens of dtype === 'bfloat16' ? [0, 17, 65] : [0, 1, 13, 65]) {
      const x = cast(tensorOf(normalNumbers(tokens * 192, 5), [tokens, 192]), dtype);
      const g = cast(tensorOf(normalNumbers(tokens * 203, 6), [tokens, 203]), dtype);
      const forward = bytesOf(kernels.matMul(x, decoded, { transposeB: true }));
      const backward = bytesOf(kernels.matMul(g, decoded));
      expect(Buffer.compare(bytesOf(quantizedProduct(x, matrix, true)), forward)).toBe(0);
      expect(Buffer.compare(bytesOf(quantizedProduct(g, matrix, false)), backward)).toBe(0);
      // 64 columns of the result at a time, the last piece smaller.
      expect(Buffer.compare(bytesOf(quantizedProductInPieces(x, matrix, true, 1)), forward)).toBe(0);
      expect(Buffer.compare(bytesOf(quantizedProductInPieces(g, matrix, false, 1)), backward)).toBe(0);
    }
    matrix.dispose();
  });
});
