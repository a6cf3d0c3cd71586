// Computes on the card what jobs seldom or never ask of it: casts between all element types, moves of elements of every size, and sums
// of long rows and columns. Exact results are known. Writes what is wrong to RESULT_FILE.
import {
  BYTES_PER_ELEMENT,
  cast,
  concat,
  fill,
  gather,
  max,
  scope,
  sum,
  tensorOf,
  toFloat32Array,
  transpose,
} from '../../../packages/tensor/dist/index.js';
import { writePartResult } from './run-part.mjs';

/** @typedef {import('../../../packages/tensor/dist/index.js').Tensor} Tensor */
/** @typedef {import('../../../packages/tensor/dist/index.js').DType} DType */

/** Numbers that every type has. */
const NUMBERS = [0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1];
const [ROWS, COLUMNS] = [3, 5];
/** More than a block sums at once. */
const LONG = 20_000;

const types = /** @type {DType[]} */ (Object.keys(BYTES_PER_ELEMENT));
let computed = 0;
/** @type {string[]} */
const wrong = [];

for (const from of types) {
  for (const to of types) {
    if (from !== to) check(`${from} cast to ${to}`, () => cast(matrixOf(from), to), NUMBERS);
  }
  check(`${from} transposed`, () => transpose(matrixOf(from), [1, 0]), columnsFirst(NUMBERS));
  check(`${from}, rows gathered`, () => gather(matrixOf(from), indices([2, 0])), [...rowOf(2), ...rowOf(0)]);
  const twice = Array.from({ length: ROWS }, (_, row) => [...rowOf(row), ...rowOf(row)]).flat();
  check(`${from}, rows joined`, () => concat([matrixOf(from), matrixOf(from)], 1), twice);
  check(`${from} filled`, () => fill([COLUMNS], 1, from), new Array(COLUMNS).fill(1));
}
for (const type of /** @type {const} */ (['float32', 'bfloat16'])) {
  // Powers of two and their sums are exact.
  const long = fill([2, LONG], 2 ** -7, type);
  const total = Math.fround(LONG * 2 ** -7);
  const expected =
    type === 'float32' ? total : Number(toFloat32Array(cast(tensorOf(Float32Array.of(total), [1]), type))[0]);
  check(`${type}, long rows summed`, () => sum(long, 1), [expected, expected]);
  check(`${type}, long columns summed`, () => sum(transpose(long, [1, 0]), 0), [expected, expected]);
  check(`${type}, the greatest of long rows`, () => max(long, 1), [2 ** -7, 2 ** -7]);
  check(`${type}, the greatest of long columns`, () => max(transpose(long, [1, 0]), 0), [2 ** -7, 2 ** -7]);
  long.dispose();
}
writePartResult({
  lines: [`${computed} results, ${wrong.length} of them wrong.`, ...wrong.map((text) => `- ${text}`)],
  computed,
  wrong,
});
if (wrong.length > 0) process.exitCode = 1;

/** @param {string} name @param {() => Tensor} compute @param {readonly number[]} expected */
function check(name, compute, expected) {
  computed++;
  try {
    const found = scope(() => [...toFloat32Array(compute())]);
    if (found.length === expected.length && found.every((number, i) => number === expected[i])) return;
    wrong.push(`${name}: ${found.slice(0, 20).join(' ')} instead of ${expected.slice(0, 20).join(' ')}`);
  } catch (error) {
    wrong.push(`${name}: ${error instanceof Error ? error.message : error}`);
  }
}

/** @param {DType} type @returns {Tensor} `[ROWS, COLUMNS]` */
function matrixOf(type) {
  return cast(tensorOf(Float32Array.from(NUMBERS), [ROWS, COLUMNS]), type);
}

/** @param {number[]} numbers */
function indices(numbers) {
  return tensorOf(Int32Array.from(numbers), [numbers.length]);
}

/** @param {number} row */
function rowOf(row) {
  return NUMBERS.slice(row * COLUMNS, (row + 1) * COLUMNS);
}

/** @param {readonly number[]} numbers of a matrix, row by row */
function columnsFirst(numbers) {
  return Array.from({ length: ROWS * COLUMNS }, (_, i) => numbers[(i % ROWS) * COLUMNS + Math.floor(i / ROWS)] ?? 0);
}
