import type { FloatDType } from '../dtype.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import type { PackedMatrix } from '../kernels/packed-matrix.js';
import { QuantizedMatrix } from '../kernels/quantized.js';
import { ScaledMatrix } from '../kernels/scaled.js';
import type { Tensor } from '../tensor.js';
import { tensorOf, tensorOfBytes } from '../transfer.js';
import { type CaseSizes, kernelSubject, type NumericCase } from './numeric-case.js';
import { seededBytes, seededNumbers, seededTensor } from './seeded-inputs.js';
import { EXACT, SUM } from './tolerances.js';

/** The shape of quantized weights. */
export interface QuantizedShape {
  columns: number;
  /** The rows of each module. */
  rows: readonly number[];
  form: '4 bits' | '4 bits, double quantization' | '8 bits';
}

/** Modules whose second block of scales begins within one; scales in float32; short blocks; and the query, key and value of a large model. */
function shapes(sizes: CaseSizes): QuantizedShape[] {
  const small: QuantizedShape[] = [
    { columns: 192, rows: [70, 133, 1], form: '4 bits, double quantization' },
    { columns: 64, rows: [33], form: '4 bits' },
    { columns: 200, rows: [150, 7], form: '8 bits' },
  ];
  const large = { columns: 4096, rows: [4096, 1024, 1024] };
  if (sizes === 'small') return small;
  return [...small, { ...large, form: '4 bits, double quantization' }, { ...large, form: '8 bits' }];
}

export function quantizedCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  return shapes(sizes).flatMap((shape): NumericCase[] => {
    const { columns, rows, form } = shape;
    const all = rows.reduce((sum, count) => sum + count, 0);
    const name = `${dtype} [${all}, ${columns}], ${form}`;
    const withMatrix = <Result>(use: (matrix: PackedMatrix) => Result): Result => {
      const matrix = seededPacked(shape);
      const result = use(matrix);
      matrix.dispose();
      return result;
    };
    const product = (kernels: KernelSet, tokens: Tensor, matrix: PackedMatrix, transposed = true) =>
      kernels.of(dtype).quantizedProduct(tokens, matrix, transposed);
    return [
      {
        name: `dequantizeRows ${name}`,
        subject: kernelSubject('dequantizeRows', dtype),
        tolerance: EXACT,
        compute: (kernels) =>
          withMatrix((matrix) => ({
            rows: kernels.of(dtype).dequantizeRows(matrix, rows[0]! - 1, 1, dtype),
            all: kernels.of(dtype).dequantizeRows(matrix, 0, all, dtype),
          })),
      },
      {
        name: `quantizedProduct ${name}`,
        subject: kernelSubject('quantizedProduct', dtype),
        tolerance: SUM[dtype],
        compute: (kernels) =>
          withMatrix((matrix) => ({ product: product(kernels, seededTensor([17, columns], 81, dtype), matrix) })),
      },
      {
        name: `quantizedProduct ${name}, few rows`,
        subject: kernelSubject('quantizedProduct', dtype),
        tolerance: SUM[dtype],
        compute: (kernels) =>
          withMatrix((matrix) => ({
            one: product(kernels, seededTensor([1, columns], 87, dtype), matrix),
            eleven: product(kernels, seededTensor([11, columns], 88, dtype), matrix),
          })),
      },
      {
        name: `quantizedProduct ${name}, backward`,
        subject: kernelSubject('quantizedProduct', dtype),
        tolerance: SUM[dtype],
        compute: (kernels) =>
          withMatrix((matrix) => ({ product: product(kernels, seededTensor([17, all], 82, dtype), matrix, false) })),
      },
    ];
  });
}

/** Random weights, the same for the same shape. */
export function seededPacked(shape: QuantizedShape): QuantizedMatrix | ScaledMatrix {
  return shape.form === '8 bits' ? seededScaled(shape) : seededQuantized(shape);
}

/** Blocks as they are published; bytes that are no NaN. */
function seededScaled({ columns, rows }: QuantizedShape): ScaledMatrix {
  const block = 128;
  const numbers = columns * rows.reduce((sum, count) => sum + count, 0);
  const modules = rows.map((count, i) => {
    const blocks = Math.ceil(count / block) * Math.ceil(columns / block);
    return { rows: count, blockRows: block, scales: seededNumbers([blocks], 86 + i) };
  });
  return new ScaledMatrix(
    columns,
    block,
    modules,
    seededBytes(numbers, 89, (byte) => (byte % 128 === 127 ? 0 : byte)),
  );
}

function seededQuantized({ columns, rows, form }: QuantizedShape): QuantizedMatrix {
  const nested = form === '4 bits, double quantization';
  const numbers = columns * rows.reduce((sum, count) => sum + count, 0);
  const blocks = numbers / 64;
  const modules = rows.map((count, i) => ({
    rows: count,
    values: seededNumbers([16], 90 + i),
    nested: nested ? { values: seededNumbers([256], 100 + i), offset: 0.25 * (i + 1) } : null,
  }));
  const nestedCount = rows.reduce((sum, count) => sum + Math.ceil((count * columns) / 64 / 256), 0);
  return new QuantizedMatrix(columns, modules, {
    codes: seededBytes(numbers / 2, 83),
    scales: nested
      ? seededBytes(blocks, 84)
      : tensorOfBytes(new Uint8Array(seededNumbers([blocks], 84).buffer), [blocks, 4], 'uint8'),
    nestedScales: nested ? tensorOf(seededNumbers([nestedCount], 85), [nestedCount]) : null,
  });
}
