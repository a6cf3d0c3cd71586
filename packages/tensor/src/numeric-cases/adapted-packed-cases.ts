import type { FloatDType } from '../dtype.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import { type LoraLayout, parametersOf } from '../kernels/lora.js';
import type { LoraPart } from '../kernels/lora-products.js';
import type { PackedMatrix } from '../kernels/packed-matrix.js';
import type { Tensor } from '../tensor.js';
import { type CaseSizes, kernelSubject, type NumericCase } from './numeric-case.js';
import { type QuantizedShape, seededPacked } from './quantized-cases.js';
import { seededTensor } from './seeded-inputs.js';
import { ADDED_PRODUCT } from './tolerances.js';

interface AdaptedShape extends QuantizedShape {
  tokens: number;
  adapted: LoraLayout['adapted'];
}

/** A group with a wider output, in which layers are not adapted, and one with a wider input; and both of a large model. */
function shapes(sizes: CaseSizes): AdaptedShape[] {
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
  return shapes(sizes).flatMap((shape): NumericCase[] => {
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
