import './emulated-gpu.js';
import { expect, test } from 'vitest';
import { engine } from '../src/binding.js';
import { rowSections } from '../src/kernels/grouped-product.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { Mxfp4Matrices } from '../src/kernels/mxfp4.js';
import { groupedPackedProductInPieces, type PackedRows } from '../src/kernels/packed-matrix.js';
import { reshape } from '../src/layout.js';
import { seededBytes, seededTensor } from '../src/numeric-cases/numeric-case.js';
import { type QuantizedShape, seededPacked } from '../src/numeric-cases/quantized-cases.js';
import { type FloatDType, scope, type Tensor } from '../src/tensor.js';
import { toFloat32Array } from '../src/transfer.js';

// Products of experts in 4 and 8 bits: what is decoded at a time, and in how many launches.

const kernels = chooseKernels('fused');

/** Five of eight experts have rows. Each matrix is two modules, whose rows are whole blocks. */
const COUNTS = [0, 3, 9, 0, 1, 2, 0, 5];
const WITH_ROWS = COUNTS.filter((count) => count > 0).length;
const [DEPTH, COLUMNS] = [64, 24];
const SIZE = DEPTH * COLUMNS;

type Form = QuantizedShape['form'] | 'MXFP4';
const KERNELS: Record<Form, string> = {
  '4 bits': 'DequantizeGroups',
  '4 bits, double quantization': 'DequantizeGroups',
  '8 bits': 'DequantizeScaledGroups',
  MXFP4: 'DequantizeMxfp4Groups',
};

function expertsIn(form: Form): PackedRows {
  if (form !== 'MXFP4') return seededPacked({ columns: DEPTH, rows: COUNTS.flatMap(() => [16, 8]), form });
  const numbers = COUNTS.length * SIZE;
  const scales = seededBytes(numbers / 32, 2, (byte) => 120 + (byte % 8));
  return new Mxfp4Matrices([COUNTS.length, COLUMNS, DEPTH], seededBytes(numbers / 2, 1), scales);
}

function sectionsOf(counts: readonly number[]) {
  const offsets = new Int32Array(counts.length + 1);
  for (const [group, count] of counts.entries()) offsets[group + 1] = offsets[group]! + count;
  return rowSections(offsets);
}

const numbersOf = (x: Tensor) => toFloat32Array(x);

/** The launches of each kernel, of which there were any. */
function launchesIn(work: () => void): Record<string, number> {
  const before = engine.cuda!.statistics().kernels;
  work();
  const after = engine.cuda!.statistics().kernels;
  const counts = Object.entries(after).map(([name, count]): [string, number] => [name, count - (before[name] ?? 0)]);
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

const SUFFIX: Record<FloatDType, string> = { float32: 'Float32', bfloat16: 'BFloat16' };
const BYTES: Record<FloatDType, number> = { float32: 4, bfloat16: 2 };

test.each(
  (Object.keys(KERNELS) as Form[]).flatMap((form) =>
    (['float32', 'bfloat16'] as FloatDType[]).map((dtype) => ({ form, dtype })),
  ),
)('as many experts in $form as memory holds are decoded at a time, to the same bits: $dtype', ({ form, dtype }) => {
  scope(() => {
    const weights = expertsIn(form);
    const sections = sectionsOf(COUNTS);
    const rows = COUNTS.reduce((sum, count) => sum + count, 0);
    const { dequantizeRows, groupedProduct } = kernels.of(dtype);
    const decoded = reshape(dequantizeRows(weights, 0, COUNTS.length * COLUMNS, dtype), [
      ...[COUNTS.length, COLUMNS, DEPTH],
    ]);
    const x = seededTensor([rows, DEPTH], 3, dtype);
    const gradient = seededTensor([rows, COLUMNS], 4, dtype);
    for (const [a, transposed] of [
      [x, true],
      [gradient, false],
    ] as const) {
      const expected = numbersOf(groupedProduct(a, decoded, sections, transposed));
      // Less than one, one, two and all of the experts that have rows; those without would make more launches.
      for (const [experts, launches] of [
        [0.5, WITH_ROWS],
        [1, WITH_ROWS],
        [2.5, 3],
        [WITH_ROWS, 1],
        [100, 1],
      ] as const) {
        const most = experts * SIZE * BYTES[dtype];
        let product: Tensor | undefined;
        const launched = launchesIn(() => {
          product = groupedPackedProductInPieces(a, weights, sections, transposed, most);
        });
        const name = `GroupedProduct${transposed ? 'Transposed' : ''}${SUFFIX[dtype]}`;
        expect(launched).toEqual({ [KERNELS[form] + SUFFIX[dtype]]: launches, [name]: launches });
        expect(numbersOf(product!)).toEqual(expected);
      }
    }
    weights.dispose();
  });
});

test('more experts than a launch has parameters for take as few launches as that allows, of about as many each', () => {
  scope(() => {
    const counts = Array.from({ length: 128 }, () => 1);
    const weights = seededPacked({ columns: 64, rows: counts.map(() => 8), form: '4 bits' });
    const sections = sectionsOf(counts);
    const { dequantizeRows, groupedProduct, groupedPackedProduct } = kernels.of('bfloat16');
    const decoded = reshape(dequantizeRows(weights, 0, 128 * 8, 'bfloat16'), [128, 8, 64]);
    const x = seededTensor([128, 64], 5, 'bfloat16');
    const expected = numbersOf(groupedProduct(x, decoded, sections, true));
    let product: Tensor | undefined;
    const launched = launchesIn(() => {
      product = groupedPackedProduct(x, weights, sections, true);
    });
    expect(launched).toEqual({ DequantizeGroupsBFloat16: 4, GroupedProductTransposedBFloat16: 4 });
    expect(numbersOf(product!)).toEqual(expected);
    weights.dispose();
  });
});
