import type { FloatDType } from '../dtype.js';
import { rowSections } from '../kernels/grouped-product.js';
import { kernelsFor } from '../kernels/kernel-table.js';
import { tensorOf } from '../transfer.js';
import { kernelSubject } from './kernel-cases.js';
import type { CaseSizes, NumericCase } from './numeric-case.js';
import { seededTensor } from './seeded-inputs.js';
import { SINGLE_OP, SUM } from './tolerances.js';

interface GroupShape {
  counts: readonly number[];
  depth: number;
  columns: number;
}

/** The ops of mixtures of experts. */
export function expertCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  // Groups without rows at the start, within and at the end; sizes that no vector load divides.
  const small: GroupShape = { counts: [0, 1, 17, 0, 65, 0], depth: 37, columns: 45 };
  const large: GroupShape = { counts: [300, 0, 12, 712], depth: 768, columns: 1_536 };
  return [
    ...(sizes === 'small' ? [small] : [small, large]).map((shape) => groupedProductCase(dtype, shape)),
    gatheredSumCase(dtype),
  ];
}

function groupedProductCase(dtype: FloatDType, { counts, depth, columns }: GroupShape): NumericCase {
  const offsets = new Int32Array(counts.length + 1);
  for (const [group, count] of counts.entries()) offsets[group + 1] = offsets[group]! + count;
  const rows = offsets.at(-1)!;
  return {
    name: `groupedProduct ${dtype} [${counts.join(' + ')}, ${depth}] to ${columns}`,
    subject: kernelSubject('groupedProduct', dtype),
    tolerance: SUM[dtype],
    compute: () => {
      const { groupedProduct } = kernelsFor(dtype);
      const weights = seededTensor([counts.length, columns, depth], 70, dtype);
      const x = seededTensor([rows, depth], 71, dtype);
      const gradient = seededTensor([rows, columns], 72, dtype);
      const sections = rowSections(offsets);
      return {
        output: groupedProduct(x, weights, sections, true),
        byInput: groupedProduct(gradient, weights, sections, false),
      };
    },
  };
}

function gatheredSumCase(dtype: FloatDType): NumericCase {
  const width = 131;
  // A row that no sum has, one that several have, and one twice in a sum.
  const places = [4, 0, 2, 2, 2, 5, 1, 6, 4, 0, 0, 6];
  return {
    name: `gatheredSum ${dtype} of ${places.length} rows`,
    // On a card it is made of plain ops, which nothing replaces.
    subject: { kind: 'op', name: 'gatheredSum' },
    tolerance: SINGLE_OP[dtype],
    compute: () => {
      const x = seededTensor([7, width], 73, dtype);
      return { sums: kernelsFor(dtype).gatheredSum(x, tensorOf(Int32Array.from(places), [places.length]), 3) };
    },
  };
}
