import { tensorOf, toFloat32Array } from '../../packages/tensor/dist/index.js';

/** @param {number[][]} rows */
export function matrix(rows) {
  return tensorOf(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);
}

/** @param {import('../../packages/tensor/dist/index.js').Tensor} tensor `[rows, columns]` */
export function rowsOf(tensor) {
  const numbers = toFloat32Array(tensor);
  const [rows = 0, columns = 0] = tensor.shape;
  return Array.from({ length: rows }, (_, row) => [...numbers.subarray(row * columns, (row + 1) * columns)]);
}
