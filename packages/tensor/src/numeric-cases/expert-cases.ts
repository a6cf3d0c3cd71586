import { rowSections } from '../kernels/grouped-product.js';
import { Mxfp4Matrices } from '../kernels/mxfp4.js';
import type { PackedRows } from '../kernels/packed-matrix.js';
import { reshape, split } from '../layout.js';
import type { FloatDType } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import {
  type CaseSizes,
  EXACT,
  kernelSubject,
  type NumericCase,
  SINGLE_OP,
  SUM,
  seededBytes,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';
import { type QuantizedShape, seededPacked } from './quantized-cases.js';

interface GroupShape {
  counts: readonly number[];
  depth: number;
  columns: number;
}

/** The ops of mixtures of experts. */
export function expertCases(dtype: FloatDType, sizes: CaseSizes): (NumericCase | TestCase)[] {
  // Groups without rows at the start, within and at the end; sizes that no vector load divides.
  const small: GroupShape = { counts: [0, 1, 17, 0, 65, 0], depth: 37, columns: 45 };
  const smallBlocks: GroupShape = { ...small, depth: 192, columns: 64 };
  const large: GroupShape = { counts: [300, 0, 12, 712], depth: 768, columns: 1_536 };
  const packed = sizes === 'small' ? [smallBlocks] : [smallBlocks, large];
  // More experts than one launch decodes.
  const many: GroupShape = { counts: Array.from({ length: 100 }, (_, i) => i % 3), depth: 64, columns: 32 };
  const forms: readonly PackedForm[] = ['MXFP4', '4 bits, double quantization', '8 bits'];
  return [
    ...(sizes === 'small' ? [small] : [small, large]).map((shape) => groupedProductCase(dtype, shape)),
    ...[...packed, many].flatMap((shape) => forms.flatMap((form) => packedCases(dtype, shape, form))),
    ...gatheredSumCases(dtype, sizes),
    ...clampedUnitCases(dtype, sizes),
    ...gatheredSumTests(dtype),
    ...(dtype === 'float32' ? [beyondLimitTest()] : []),
  ];
}

function offsetsOf(counts: readonly number[]): Int32Array {
  const offsets = new Int32Array(counts.length + 1);
  for (const [group, count] of counts.entries()) offsets[group + 1] = offsets[group]! + count;
  return offsets;
}

function groupedProductCase(dtype: FloatDType, { counts, depth, columns }: GroupShape): NumericCase {
  const offsets = offsetsOf(counts);
  const rows = offsets.at(-1)!;
  return {
    name: `groupedProduct ${dtype} [${counts.join(' + ')}, ${depth}] to ${columns}`,
    subject: kernelSubject('groupedProduct', dtype),
    tolerance: SUM[dtype],
    compute: (kernels) => {
      const { groupedProduct } = kernels.of(dtype);
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

type PackedForm = QuantizedShape['form'] | 'MXFP4';

/** Weights whose rows are whole blocks; those of an expert are two modules, where there are modules. */
function seededExperts({ counts, depth, columns }: GroupShape, form: PackedForm): PackedRows {
  const experts = counts.length;
  if (form !== 'MXFP4') {
    return seededPacked({ columns: depth, rows: Array.from({ length: 2 * experts }, () => columns / 2), form });
  }
  // All scales that keep numbers near one.
  const scales = seededBytes((experts * columns * depth) / 32, 75, (byte) => 120 + (byte % 8));
  return new Mxfp4Matrices([experts, columns, depth], seededBytes((experts * columns * depth) / 2, 74), scales);
}

function packedCases(dtype: FloatDType, shape: GroupShape, form: PackedForm): NumericCase[] {
  const { counts, depth, columns } = shape;
  const sections = () => rowSections(offsetsOf(counts));
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const withWeights = <Result>(use: (weights: PackedRows) => Result): Result => {
    const weights = seededExperts(shape, form);
    const result = use(weights);
    weights.dispose();
    return result;
  };
  const name = `${dtype} ${counts.length} of [${columns}, ${depth}], ${form}`;
  return [
    {
      name: `groupedPackedProduct ${name}`,
      subject: kernelSubject('groupedPackedProduct', dtype),
      tolerance: SUM[dtype],
      compute: (kernels) => {
        const { groupedPackedProduct } = kernels.of(dtype);
        const x = seededTensor([rows, depth], 76, dtype);
        const gradient = seededTensor([rows, columns], 77, dtype);
        return {
          output: withWeights((weights) => groupedPackedProduct(x, weights, sections(), true)),
          byInput: withWeights((weights) => groupedPackedProduct(gradient, weights, sections(), false)),
        };
      },
    },
    {
      name: `dequantizeRows ${name}`,
      subject: kernelSubject('dequantizeRows', dtype),
      tolerance: EXACT,
      compute: (kernels) => ({
        // The end of an expert and the beginning of the next.
        rows: withWeights((weights) => kernels.of(dtype).dequantizeRows(weights, columns - 1, 2, dtype)),
      }),
    },
  ];
}

/** Numbers around the limit, and far from it: pairs that no vector has, whole vectors, and more than all threads take at once. */
function clampedUnitCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const limit = 1;
  const shapes = sizes === 'small' ? [[7, 37], [3, 96]] : [[7, 37], [3, 96], [511, 11_008]]; // biome-ignore format: a list
  return shapes.flatMap(([tokens = 0, intermediate = 0]): NumericCase[] => {
    const gateUp = () => seededTensor([tokens, 2 * intermediate], 78, dtype);
    const name = `${dtype} [${tokens}, ${intermediate}]`;
    return [
      {
        name: `clampedUnit ${name}`,
        subject: kernelSubject('clampedUnit', dtype),
        tolerance: SINGLE_OP[dtype],
        compute: (kernels) => ({ output: kernels.of(dtype).clampedUnit(gateUp(), limit) }),
      },
      {
        name: `clampedUnitGradient ${name}`,
        subject: kernelSubject('clampedUnitGradient', dtype),
        tolerance: SUM[dtype],
        compute: (kernels) => {
          const gradient = seededTensor([tokens, intermediate], 79, dtype);
          const both = kernels.of(dtype).clampedUnitGradient(gradient, gateUp(), limit);
          const [gate, up] = split(reshape(both, [tokens * intermediate, 2]), [1, 1], 1);
          return { gate: gate!, up: up! };
        },
      },
    ];
  });
}

/** `[rows, width]` and the rows of a sum: widths that no vector divides, of one vector for each thread, and of several. */
function gatheredSumCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const small = { rows: 7, width: 131, count: 3, sums: 4 };
  const vectors = { ...small, width: 136 };
  const large = { rows: 2_048, width: 4_096, count: 8, sums: 1_023 };
  return (sizes === 'small' ? [small, vectors] : [small, vectors, large]).map(({ rows, width, count, sums }) => ({
    name: `gatheredSum ${dtype} ${sums} of ${count} rows of ${width}`,
    subject: kernelSubject('gatheredSum', dtype),
    // The same order on each side, from the first row to the last.
    tolerance: SINGLE_OP[dtype],
    compute: (kernels) => {
      const x = seededTensor([rows, width], 73, dtype);
      // Rows that no sum has, that several have, and that are twice in a sum.
      const places = Int32Array.from({ length: sums * count }, (_, i) => (i * i + 4) % rows);
      return { sums: kernels.of(dtype).gatheredSum(x, tensorOf(places, [places.length]), count) };
    },
  }));
}

/** The order of additions of plain ops; and no sums at all. */
function gatheredSumTests(dtype: FloatDType): TestCase[] {
  const places = [4, 0, 2, 2, 2, 5, 1, 299, 4, 0, 0, 6];
  const sums = (width: number, count: number, own: readonly number[]) =>
    testCase(
      `gatheredSum ${dtype} ${own.length / count} of ${count} rows of ${width}, in the order of plain ops`,
      EXACT,
      (kernels) => {
        const x = spreadTensor([300, width], 74, 1, dtype);
        return { sums: kernels.of(dtype).gatheredSum(x, tensorOf(Int32Array.from(own), [own.length]), count) };
      },
    );
  return [...[1, 3, 12].map((count) => sums(131, count, places)), sums(7, 2, [])];
}

/** Numbers of which two thirds are beyond a limit. */
function beyondLimitTest(): TestCase {
  const limit = 7;
  return testCase('clampedUnit float32 [13, 5], numbers to 21', { kind: 'largest', relative: 1e-6 }, (kernels) => ({
    output: kernels.of('float32').clampedUnit(spreadTensor([13, 10], 75, 3 * limit), limit),
  }));
}
