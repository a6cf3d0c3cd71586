import {
  add,
  argMax,
  divide,
  erf,
  exponential,
  greater,
  greaterEqual,
  max,
  maximum,
  mean,
  minimum,
  multiply,
  reciprocalSquareRoot,
  relu,
  sigmoid,
  softmax,
  square,
  squareRoot,
  subtract,
  sum,
  tanh,
} from '../arithmetic.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import { batchMatMul } from '../kernels/product.js';
import { concat, fill, gather, pad, reshape, roll, scatter, slice, split, transpose } from '../layout.js';
import { alias, type FloatDType, type Tensor } from '../tensor.js';
import { cast, randomUniform, tensorOfBytes } from '../transfer.js';
import {
  ADDED_PRODUCT,
  type CaseSizes,
  type CaseSubject,
  type CaseTolerance,
  EXACT,
  FUSED_AND_PLAIN,
  kernelSubject,
  type NumericCase,
  positiveTensor,
  ROUNDED_IN_STEPS,
  SINGLE_OP,
  SUM,
  seededIndices,
  seededNumbers,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';

// The ops that everything else is made of, also the plain variants that replace a fused kernel: without one of them the
// engine is of no use. One case computes an op on several shapes.

const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];

export function simpleOpCases(sizes: CaseSizes): (NumericCase | TestCase)[] {
  return [
    ...DTYPES.flatMap((dtype) => [...elementCases(dtype), ...reductionCases(dtype, sizes), ...layoutCases(dtype)]),
    ...DTYPES.flatMap((dtype) => [...productCases(dtype, sizes), productTest(dtype)]),
    ...conversionCases(),
  ];
}

function opCase(
  op: string,
  dtype: FloatDType,
  tolerance: CaseTolerance,
  compute: (kernels: KernelSet) => readonly Tensor[],
  subject: CaseSubject = { kind: 'op', name: op },
): NumericCase {
  const compared = (kernels: KernelSet) =>
    Object.fromEntries(compute(kernels).map((tensor, index) => [String(index), tensor]));
  return { name: `${op} ${dtype}`, subject, tolerance, compute: compared };
}

/** The second operand has the same shape, or is repeated along rows, columns or everywhere. */
const BROADCASTS: readonly (readonly number[])[] = [[5, 67], [67], [5, 1], []];

function elementCases(dtype: FloatDType): NumericCase[] {
  const a = () => seededTensor([5, 67], 21, dtype);
  const pairs = (op: (a: Tensor, b: Tensor) => Tensor) => () =>
    BROADCASTS.flatMap((shape) => [
      op(a(), positiveTensor(shape, 22, dtype)),
      op(positiveTensor(shape, 22, dtype), a()),
    ]);
  const single = SINGLE_OP[dtype];
  const binary = { add, subtract, multiply };
  const comparing = { greater, greaterEqual };
  const unary = { exponential, sigmoid, tanh, erf };
  return [
    ...Object.entries(binary).map(([name, op]) => opCase(name, dtype, single, pairs(op))),
    opCase('divide', dtype, single, () => BROADCASTS.map((shape) => divide(a(), positiveTensor(shape, 22, dtype)))),
    opCase('maximum', dtype, EXACT, pairs(maximum)),
    opCase('minimum', dtype, EXACT, pairs(minimum)),
    ...Object.entries(comparing).map(([name, op]) =>
      opCase(name, dtype, EXACT, () => pairs(op)().map((found) => cast(found, 'float32'))),
    ),
    ...Object.entries(unary).map(([name, op]) => opCase(name, dtype, single, () => [op(a())])),
    opCase('square', dtype, single, () => [square(a())]),
    opCase('squareRoot', dtype, single, () => [squareRoot(positiveTensor([333], 23, dtype))]),
    opCase('reciprocalSquareRoot', dtype, single, () => [reciprocalSquareRoot(positiveTensor([333], 23, dtype))]),
    opCase('relu', dtype, EXACT, () => [relu(a())]),
  ];
}

function reductionCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[5, 67]] : [[5, 67], [300, 5_000]]; // biome-ignore format: a list
  const over = (op: typeof sum) => () =>
    shapes.flatMap((shape) => {
      const x = seededTensor(shape, 24, dtype);
      return [op(x, -1), op(x, 0), op(x, 'all'), op(x, -1, { keepDims: true })];
    });
  return [
    opCase('sum', dtype, SUM[dtype], over(sum)),
    opCase('mean', dtype, SUM[dtype], over(mean)),
    opCase('max', dtype, EXACT, over(max)),
    opCase('argMax', dtype, EXACT, () => shapes.map((shape) => argMax(seededTensor(shape, 25, dtype)))),
    opCase('softmax', dtype, ROUNDED_IN_STEPS[dtype], () =>
      shapes.map((shape) => softmax(seededTensor(shape, 26, dtype))),
    ),
  ];
}

function layoutCases(dtype: FloatDType): NumericCase[] {
  const x = () => seededTensor([3, 5, 22], 27, dtype);
  const exact = (op: string, compute: () => readonly Tensor[]) => opCase(op, dtype, EXACT, compute);
  return [
    exact('reshape', () => [reshape(x(), [15, -1]), alias(x())]),
    exact('transpose', () => [transpose(x(), [0, 2, 1]), transpose(x(), [2, 0, 1]), transpose(x(), [1, 0, 2])]),
    exact('concat', () => [concat([x(), x()], 0), concat([x(), x(), x()], 1), concat([x(), x()], 2)]),
    exact('split', () => [...split(x(), [1, 2], 0), ...split(x(), [7, 15], 2)]),
    exact('slice', () => [slice(x(), [1, 0, 3], [2, -1, 7])]),
    exact('pad', () => [pad(x(), [[1, 0], [0, 2], [3, 1]])]), // biome-ignore format: a list
    exact('gather', () => [
      gather(x(), seededIndices(9, 3, 28)),
      gather(reshape(x(), [330]), seededIndices(99, 330, 29)),
    ]),
    opCase('scatter', dtype, ROUNDED_IN_STEPS[dtype], () => [
      // Indices that occur several times, whose slices are added.
      scatter(seededIndices(15, 4, 30), seededTensor([15, 22], 31, dtype), 6),
      // Whole vectors, more indices than a warp reads at once, and rows without any.
      scatter(seededIndices(300, 290, 37), seededTensor([300, 64], 38, dtype), 700),
    ]),
    exact('roll', () => [roll(x(), 11), roll(x(), -3)]),
    exact('fill', () => [fill([3, 7], 0.5, dtype), fill([65], 0, dtype)]),
  ];
}

function productCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const product = (name: string, compute: (kernels: KernelSet) => readonly Tensor[]) =>
    opCase(name, dtype, SUM[dtype], compute, { kind: 'product', name });
  const added = (name: string, compute: (kernels: KernelSet) => readonly Tensor[]) =>
    opCase(name, dtype, ADDED_PRODUCT[dtype], compute, kernelSubject('addMatMul', dtype));
  // `[m, k, n]`: a column, sizes that no tile divides, ones that a tensor core takes, and a layer of a real model.
  const shapes = [[1, 5, 1], [7, 33, 19], [64, 96, 128], ...(sizes === 'small' ? [] : [[512, 2_048, 1_536]])]; // biome-ignore format: a list
  const of =
    (compute: (kernels: KernelSet, m: number, k: number, n: number) => Tensor, over = shapes) =>
    (kernels: KernelSet) =>
      over.map(([m = 0, k = 0, n = 0]) => compute(kernels, m, k, n));
  // `[rows, features, rank]` of LoRA's products: narrow ones, whose rows begin at few bytes' alignment.
  const narrow =
    sizes === 'small' ? [[24, 40, 4], [24, 40, 12]] : [4, 12, 16, 48].map((rank) => [4_096, 1_024, rank]); // biome-ignore format: a list
  const long = sizes === 'small' ? narrow : [...narrow, ...[4, 48].map((rank) => [65_536, 64, rank])];
  const a = (...shape: number[]) => seededTensor(shape, 32, dtype);
  const b = (...shape: number[]) => seededTensor(shape, 33, dtype);
  const addend = (...shape: number[]) => seededTensor(shape, 34, dtype);
  const transposeB = { transposeB: true };
  return [
    product(
      'matMul',
      of((kernels, m, k, n) => kernels.matMul(a(m, k), b(k, n))),
    ),
    product(
      'matMul, second transposed',
      of((kernels, m, k, n) => kernels.matMul(a(m, k), b(n, k), transposeB)),
    ),
    product(
      'matMul, first transposed',
      of((kernels, m, k, n) => kernels.matMul(a(k, m), b(k, n), { transposeA: true })),
    ),
    added(
      'addMatMul',
      of((kernels, m, k, n) => kernels.addMatMul(addend(m, n), a(m, k), b(k, n))),
    ),
    added(
      'addMatMul, second transposed',
      of((kernels, m, k, n) => kernels.addMatMul(addend(m, n), a(m, k), b(n, k), transposeB)),
    ),
    product(
      'matMul to a rank',
      of((kernels, m, k, rank) => kernels.matMul(a(m, k), b(rank, k), transposeB), long),
    ),
    product(
      'matMul to a rank, backward',
      of((kernels, m, k, rank) => kernels.matMul(a(m, k), b(k, rank)), long),
    ),
    // As many terms as rows: not more than the tolerance is for.
    product(
      'matMul of a gradient by A',
      of((kernels, m, k, rank) => kernels.matMul(a(m, rank), b(m, k), { transposeA: true }), narrow),
    ),
    product(
      'matMul of a gradient by B',
      of((kernels, m, k, rank) => kernels.matMul(a(m, k), b(m, rank), { transposeA: true }), narrow),
    ),
    added(
      'addMatMul from a rank',
      of((kernels, m, k, rank) => kernels.addMatMul(addend(m, k), a(m, rank), b(k, rank), transposeB), long),
    ),
    added(
      'addMatMul from a rank, backward',
      of((kernels, m, k, rank) => kernels.addMatMul(addend(m, k), a(m, rank), b(rank, k)), long),
    ),
    product('batchMatMul', () => [
      batchMatMul(a(3, 5, 17), b(3, 17, 9)),
      batchMatMul(a(2, 2, 5, 16), b(2, 1, 9, 16), transposeB),
      batchMatMul(a(2, 2, 16, 5), b(2, 2, 16, 9), { transposeA: true }),
    ]),
  ];
}

/** A product, and one of it that is added to a matrix. */
function productTest(dtype: FloatDType): TestCase {
  return testCase(`matMul and addMatMul ${dtype} [45, 780] by [96, 780]`, FUSED_AND_PLAIN[dtype], (kernels) => {
    const { matMul, addMatMul } = kernels.of(dtype);
    const b = spreadTensor([96, 780], 40, 1, dtype);
    const product = matMul(spreadTensor([45, 780], 39, 1, dtype), b, false, true); // [45, 96]
    return { product, sum: addMatMul(spreadTensor([45, 780], 41, 1, dtype), product, b, false) };
  });
}

function conversionCases(): NumericCase[] {
  const x = () => seededTensor([4, 83], 35);
  const bytes = () => new Uint8Array(seededNumbers([166], 36).buffer);
  return [
    opCase('cast', 'float32', EXACT, () => [
      cast(x(), 'bfloat16'),
      cast(cast(x(), 'bfloat16'), 'float32'),
      cast(cast(x(), 'int32'), 'float32'),
      cast(greater(x(), fill([], 0)), 'bfloat16'),
    ]),
    opCase('bitcast', 'float32', EXACT, () => [
      tensorOfBytes(bytes(), [166], 'float32'),
      tensorOfBytes(bytes(), [2, 166], 'bfloat16'),
    ]),
    // Dropout: the same mask on every device.
    opCase('randomUniform', 'float32', EXACT, () => [randomUniform([3, 71], [7, 9]), randomUniform([1_025], [1, 2])]),
  ];
}
