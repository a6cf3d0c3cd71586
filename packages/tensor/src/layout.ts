import { elementType, execute, executeMany, intAttribute, typeAttribute } from './execute.js';
import { alias, type DType, type Tensor } from './tensor.js';
import { constant, parameterVector, tensorOf } from './transfer.js';

const INDEX = typeAttribute('Tidx', 'int32');
const SHAPE = typeAttribute('Tshape', 'int32');
const ORDER = typeAttribute('Tperm', 'int32');

/** The same elements in another shape, in the same memory. One dimension can be -1: it follows from the others. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return execute('Reshape', [elementType(x), SHAPE], [x, parameterVector(shape)]);
}

/** Reorders axes: axis i of the result is axis `order[i]` of `x`. */
export function transpose(x: Tensor, order: readonly number[]): Tensor {
  return execute('Transpose', [elementType(x), ORDER], [x, parameterVector(order)]);
}

/** Joins tensors along an axis. */
export function concat(tensors: Tensor[], axis: number): Tensor {
  if (tensors.length === 1) return alias(tensors[0]!);
  return execute(
    'ConcatV2',
    [elementType(tensors[0]!), intAttribute('N', tensors.length), INDEX],
    [...tensors, constant(axis, 'int32')],
  );
}

/** Splits a tensor along an axis into pieces of these sizes. */
export function split(x: Tensor, sizes: readonly number[], axis: number): Tensor[] {
  if (sizes.length === 1) return [alias(x)];
  return executeMany(
    'SplitV',
    [elementType(x), typeAttribute('Tlen', 'int32'), intAttribute('num_split', sizes.length)],
    [x, parameterVector(sizes), constant(axis, 'int32')],
    sizes.length,
  );
}

/** A box of a tensor. A size of -1 extends to the end. */
export function slice(x: Tensor, begin: readonly number[], size: readonly number[]): Tensor {
  return execute(
    'Slice',
    [elementType(x), typeAttribute('Index', 'int32')],
    [x, parameterVector(begin), parameterVector(size)],
  );
}

/** Rows of a matrix that are next to each other. */
export interface RowRange {
  first: number;
  count: number;
}

/**
 * @param x `[rows, columns]`
 * @returns `[count, columns]`
 */
export function rowsOf(x: Tensor, { first, count }: RowRange): Tensor {
  return count === x.shape[0] ? alias(x) : slice(x, [first, 0], [count, -1]);
}

/**
 * A matrix with some of its rows replaced.
 * @param x `[rows, columns]`
 * @param ranges ascending, without overlap
 * @param replaced makes the new rows of a range of the old ones; called for each in turn. Both are freed here.
 */
export function replaceRows(
  x: Tensor,
  ranges: readonly RowRange[],
  replaced: (rows: Tensor, index: number) => Tensor,
): Tensor {
  const pieces: Tensor[] = [];
  let next = 0;
  const copyTo = (end: number) => {
    if (end > next) pieces.push(rowsOf(x, { first: next, count: end - next }));
  };
  for (const [index, { first, count }] of ranges.entries()) {
    copyTo(first);
    const rows = rowsOf(x, { first, count });
    const piece = replaced(rows, index);
    if (piece !== rows) rows.dispose();
    pieces.push(piece);
    next = first + count;
  }
  copyTo(x.shape[0]!);
  const result = concat(pieces, 0);
  for (const piece of pieces) piece.dispose();
  return result;
}

/** Adds zeros around a tensor: `[before, after]` for each axis. */
export function pad(x: Tensor, paddings: readonly (readonly [number, number])[]): Tensor {
  const vector = tensorOf(Int32Array.from(paddings.flat()), [paddings.length, 2]);
  const result = execute('Pad', [elementType(x), typeAttribute('Tpaddings', 'int32')], [x, vector]);
  vector.dispose();
  return result;
}

/**
 * Slices of the first axis.
 * @param x `[n, …]`
 * @param indices `[m]` int32, each in 0 … n - 1
 * @returns `[m, …]`; on the CUDA engine a slice of NaN for an index that does not exist
 * @throws Error for an index that does not exist, on the other engines
 */
export function gather(x: Tensor, indices: Tensor): Tensor {
  const attributes = [
    typeAttribute('Tparams', x.dtype),
    typeAttribute('Tindices', 'int32'),
    typeAttribute('Taxis', 'int32'),
    intAttribute('batch_dims', 0),
  ];
  return execute('GatherV2', attributes, [x, indices, constant(0, 'int32')]);
}

/**
 * Zeros, with slices of the first axis set. Slices with the same index are added.
 * @param indices `[m]` int32, each in 0 … n - 1. On a GPU an index that does not exist is left out, else it is an error.
 * @param updates `[m, …]`
 * @param rows n
 * @returns `[n, …]`
 */
export function scatter(indices: Tensor, updates: Tensor, rows: number): Tensor {
  const column = reshape(indices, [indices.size, 1]);
  const shape = parameterVector([rows, ...updates.shape.slice(1)]);
  const result = execute(
    'ScatterNd',
    [elementType(updates), typeAttribute('Tindices', 'int32')],
    [column, updates, shape],
  );
  column.dispose();
  return result;
}

/** Rotates the last axis by `by` elements. */
export function roll(x: Tensor, by: number): Tensor {
  return execute(
    'Roll',
    [elementType(x), typeAttribute('Tshift', 'int32'), typeAttribute('Taxis', 'int32')],
    [x, constant(by, 'int32'), constant(x.shape.length - 1, 'int32')],
  );
}

/** A tensor filled with one value. */
export function fill(shape: readonly number[], value: number, dtype: DType = 'float32'): Tensor {
  return execute(
    'Fill',
    [typeAttribute('T', dtype), typeAttribute('index_type', 'int32')],
    [parameterVector(shape), constant(value, dtype)],
  );
}
