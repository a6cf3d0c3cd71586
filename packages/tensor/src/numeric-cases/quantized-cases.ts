import type { KernelSet } from '../kernels/kernel-table.js';
import { type LoraLayout, type LoraPart, parametersOf } from '../kernels/lora.js';
import type { PackedMatrix } from '../kernels/packed-matrix.js';
import { QuantizedMatrix } from '../kernels/quantized.js';
import { ScaledMatrix } from '../kernels/scaled.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { tensorOf, tensorOfBytes } from '../transfer.js';
import {
  ADDED_PRODUCT,
  type CaseSizes,
  EXACT,
  kernelSubject,
  type NumericCase,
  SUM,
  seededBytes,
  seededNumbers,
  seededTensor,
} from './numeric-case.js';

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

interface AdaptedShape extends QuantizedShape {
  tokens: number;
  adapted: LoraLayout['adapted'];
}

/** A group with a wider output, in which layers are not adapted, and one with a wider input; and both of a large model. */
function adaptedShapes(sizes: CaseSizes): AdaptedShape[] {
  const widening = {
    ...{ tokens: 70, columns: 64, rows: [90, 70] },
    adapted: [
      { rank: 3, scale: 2, outFeatures: 60, firstRow: 0 },
      { rank: 8, scale: 0.5, outFeatures: 50, firstRow: 90 },
    ],
  };
  const narrowing = {
    ...{ tokens: 70, columns: 192, rows: [70] },
    adapted: [{ rank: 3, scale: 2, outFeatures: 70, firstRow: 0 }],
  };
  const forms = ['4 bits', '4 bits, double quantization', '8 bits'] as const;
  const small = forms.flatMap((form) => [widening, narrowing].map((shape) => ({ ...shape, form })));
  if (sizes === 'small') return small;
  const queryKeyValue = [4096, 1024, 1024];
  const firstRows = [0, 4096, 5120];
  const large = {
    ...{ tokens: 300, columns: 4096, rows: queryKeyValue, form: '4 bits, double quantization' as const },
    adapted: queryKeyValue.map((outFeatures, i) => ({ rank: 16, scale: 2, outFeatures, firstRow: firstRows[i]! })),
  };
  const largeNarrowing = {
    ...{ ...large, columns: 6144, rows: [4096] },
    adapted: [{ rank: 16, scale: 2, outFeatures: 4096, firstRow: 0 }],
  };
  return [...small, large, largeNarrowing];
}

/** One adapter on all rows of quantized frozen layers. */
export function adaptedPackedCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  return adaptedShapes(sizes).flatMap((shape): NumericCase[] => {
    const { tokens, columns, rows, form, adapted } = shape;
    const outFeatures = rows.reduce((sum, count) => sum + count, 0);
    const layout: LoraLayout = { offset: 5, inFeatures: columns, outFeatures, adapted };
    const name = `${dtype} [${outFeatures}, ${columns}], ${form}`;
    const withAdapter = <Result>(
      kernels: KernelSet,
      use: (matrix: PackedMatrix, part: LoraPart, x: Tensor) => Result,
    ): Result => {
      const matrix = seededPacked(shape);
      const parameters = seededTensor([layout.offset + parametersOf(layout)], 77);
      const part: LoraPart = {
        ...{ rows: { first: 0, count: tokens }, parameters, layout, dropout: null },
        weights: () => kernels.of(dtype).loraWeights(parameters, layout, dtype),
      };
      const result = use(matrix, part, seededTensor([tokens, columns], 79, dtype));
      matrix.dispose();
      return result;
    };
    return [
      {
        name: `adaptedPackedForward ${name}`,
        subject: kernelSubject('adaptedPackedForward', dtype),
        tolerance: ADDED_PRODUCT[dtype],
        compute: (kernels) =>
          withAdapter(kernels, (matrix, part, x) => ({
            output: kernels.of(dtype).adaptedPackedForward(x, matrix, part).output,
          })),
      },
      {
        name: `adaptedPackedBackward ${name}`,
        subject: kernelSubject('adaptedPackedBackward', dtype),
        tolerance: ADDED_PRODUCT[dtype],
        compute: (kernels) =>
          withAdapter(kernels, (matrix, part, x) => {
            const { adaptedPackedForward, adaptedPackedBackward } = kernels.of(dtype);
            const { low } = adaptedPackedForward(x, matrix, part);
            const gradient = seededTensor([tokens, outFeatures], 80, dtype);
            const { byInput, byParameters } = adaptedPackedBackward(gradient, x, low, matrix, part, true);
            return { byInput: byInput!, byParameters: byParameters[0]! };
          }),
      },
    ];
  });
}
