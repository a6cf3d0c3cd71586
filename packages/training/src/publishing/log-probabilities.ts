import { exponential, max, scope, subtract, sum, type Tensor, toFloat32Array } from '@lorasmith/tensor';

/** `[rows, width]` in row-major order. */
export interface Matrix {
  values: Float32Array;
  width: number;
}

/**
 * The logarithm of the softmax of each row, and the logits that it is of.
 * @param x `[rows, width]` float32
 */
export function logProbabilities(x: Tensor): { logits: Matrix; logprobs: Matrix } {
  const [rows, width] = x.shape as [number, number];
  const { values, largest, total } = scope(() => {
    const largest = max(x, 1, { keepDims: true }); // [rows, 1]
    const total = sum(exponential(subtract(x, largest)), 1); // [rows]
    return { values: toFloat32Array(x), largest: toFloat32Array(largest), total: toFloat32Array(total) };
  });
  const logprobs = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const logTotal = largest[row]! + Math.log(total[row]!);
    for (let i = row * width; i < (row + 1) * width; i++) logprobs[i] = values[i]! - logTotal;
  }
  return { logits: { values, width }, logprobs: { values: logprobs, width } };
}

/** Root mean square of the differences of all entries. */
export function rmsDifference(one: Matrix, other: Matrix): number {
  let squares = 0;
  for (let i = 0; i < one.values.length; i++) squares += (one.values[i]! - other.values[i]!) ** 2;
  return Math.sqrt(squares / one.values.length);
}

/** The distance of entries from the mean of their row, as a root mean square. */
export function rmsSpread({ values, width }: Matrix): number {
  let squares = 0;
  for (let start = 0; start < values.length; start += width) {
    let total = 0;
    for (let i = start; i < start + width; i++) total += values[i]!;
    const mean = total / width;
    for (let i = start; i < start + width; i++) squares += (values[i]! - mean) ** 2;
  }
  return Math.sqrt(squares / values.length);
}

/** The columns with the greatest entries of a row, greatest first; of equal ones the first. */
export function topColumns({ values, width }: Matrix, row: number, count: number): number[] {
  const top: number[] = [];
  const start = row * width;
  let least = Number.NEGATIVE_INFINITY;
  for (let column = 0; column < width; column++) {
    const value = values[start + column]!;
    if (top.length === count && value <= least) continue;
    let rank = top.length;
    while (rank > 0 && values[start + top[rank - 1]!]! < value) rank--;
    top.splice(rank, 0, column);
    if (top.length > count) top.pop();
    least = values[start + top.at(-1)!]!;
  }
  return top;
}
