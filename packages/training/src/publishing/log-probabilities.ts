/** `[rows, width]` in row-major order. */
export interface Matrix {
  values: Float32Array;
  width: number;
}

/** The logarithm of the softmax of each row. */
export function logSoftmax({ values, width }: Matrix): Matrix {
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    let largest = Number.NEGATIVE_INFINITY;
    for (let i = start; i < start + width; i++) largest = Math.max(largest, values[i]!);
    let total = 0;
    for (let i = start; i < start + width; i++) total += Math.exp(values[i]! - largest);
    const logTotal = largest + Math.log(total);
    for (let i = start; i < start + width; i++) result[i] = values[i]! - logTotal;
  }
  return { values: result, width };
}

/** Root mean square of the differences of all entries. */
export function rmsDifference(one: Matrix, other: Matrix): number {
  let squares = 0;
  for (let i = 0; i < one.values.length; i++) squares += (one.values[i]! - other.values[i]!) ** 2;
  return Math.sqrt(squares / one.values.length);
}

/** How far entries are from the mean of their row, as a root mean square. */
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

/** The columns with the greatest entries of a row, greatest first. */
export function topColumns({ values, width }: Matrix, row: number, count: number): number[] {
  const top: number[] = [];
  const start = row * width;
  for (let column = 0; column < width; column++) {
    const value = values[start + column]!;
    if (top.length === count && value <= values[start + top.at(-1)!]!) continue;
    let rank = top.length;
    while (rank > 0 && values[start + top[rank - 1]!]! < value) rank--;
    top.splice(rank, 0, column);
    if (top.length > count) top.pop();
  }
  return top;
}
