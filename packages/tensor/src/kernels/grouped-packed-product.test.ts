import { describe, expect, test } from 'vitest';
import { usualCases } from '../../../../test/usual-cases.js';
import { reshape } from '../layout.js';
import { seededBytes, seededTensor } from '../numeric-cases/numeric-case.js';
import { type QuantizedShape, seededPacked } from '../numeric-cases/quantized-cases.js';
import { type FloatDType, scope, type Tensor } from '../tensor.js';
import { toFloat32Array } from '../transfer.js';
import { type InstructionSet, processorRuns } from './fused-library.js';
import { rowSections } from './grouped-product.js';
import { chooseKernels } from './kernel-table.js';
import { Mxfp4Matrices } from './mxfp4.js';
import type { PackedRows } from './packed-matrix.js';

const SETS: readonly InstructionSet[] = ['generic', 'avx2', 'avx512', 'avx512bf16'];
const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];

type Form = QuantizedShape['form'] | 'MXFP4';
const FORMS: readonly Form[] = ['MXFP4', '4 bits', '4 bits, double quantization', '8 bits'];

/** Groups without rows, with one, and more than a tile; rows of several blocks of scales; and a depth of more than one chunk. */
const SHAPES = [
  { counts: [0, 1, 17, 0, 65, 0], depth: 192, columns: 128, modules: [96, 32] },
  { counts: [13, 40], depth: 3264, columns: 45, modules: [45] },
];

/** @param modules the rows of each module of an expert */
function expertsIn(form: Form, experts: number, depth: number, modules: readonly number[]): PackedRows {
  const rows = Array.from({ length: experts }, () => modules).flat();
  if (form !== 'MXFP4') return seededPacked({ columns: depth, rows, form });
  const columns = modules.reduce((sum, count) => sum + count, 0);
  const numbers = experts * columns * depth;
  const scales = seededBytes(numbers / 32, 2, (byte) => 120 + (byte % 8));
  return new Mxfp4Matrices([experts, columns, depth], seededBytes(numbers / 2, 1), scales);
}

const CASES = SHAPES.flatMap((shape) => FORMS.flatMap((form) => DTYPES.map((dtype) => ({ form, dtype, ...shape }))));
/** The first shape in each form and dtype, the second in one form. */
const USUAL = (FORMS.length + 1) * DTYPES.length;

describe.each(usualCases(SETS.filter(processorRuns).toReversed(), 1))('the library for %s', (instructionSet) => {
  test.each(usualCases(CASES, USUAL))(
    'a product of experts in $form has the bits of one with decoded experts: $dtype, $counts of $depth',
    ({ form, dtype, counts, depth, columns, modules }) => {
      const kernels = chooseKernels('fused', { instructionSet });
      const numbersOf = (x: Tensor) => toFloat32Array(x);
      scope(() => {
        const { groupedPackedProduct, groupedProduct, dequantizeRows } = kernels.of(dtype);
        const weights = expertsIn(form, counts.length, depth, modules);
        const decoded = reshape(dequantizeRows(weights, 0, counts.length * columns, dtype), [
          ...[counts.length, columns, depth],
        ]);
        const offsets = new Int32Array(counts.length + 1);
        for (const [group, count] of counts.entries()) offsets[group + 1] = offsets[group]! + count;
        const sections = rowSections(offsets);
        const rows = offsets.at(-1)!;
        const x = seededTensor([rows, depth], 3, dtype);
        const gradient = seededTensor([rows, columns], 4, dtype);
        expect(numbersOf(groupedPackedProduct(x, weights, sections, true))).toEqual(
          numbersOf(groupedProduct(x, decoded, sections, true)),
        );
        expect(numbersOf(groupedPackedProduct(gradient, weights, sections, false))).toEqual(
          numbersOf(groupedProduct(gradient, decoded, sections, false)),
        );
        weights.dispose();
      });
    },
  );
});
