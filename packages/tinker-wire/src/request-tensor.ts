import { MAX_TARGETS_EACH } from '@lorasmith/contracts';
import { aligned, type MessageReader } from './message-reader.js';
import { WireError } from './wire-error.js';

/** Bytes of an element by the number of its type in `DType`. */
const ITEM_BYTES: Readonly<Record<number, number>> = { 1: 4, 2: 8, 3: 4, 4: 2 };
const FLOAT32 = 1;
const INT64 = 2;
const INT32 = 3;

/** The elements that the tensors of a request may have from now on, once dense. */
export interface ElementBudget {
  remaining: number;
}

/** A tensor of a request, whose sizes are checked. Its elements are not read yet. */
export interface RequestTensor {
  path: string;
  dtype: number;
  /** `[n]` or `[n, k]`. */
  shape: number[];
  /** The product of the shape. */
  elements: number;
  /** The dense elements, or those that `sparse` lists. */
  data: Uint8Array;
  /** `[listed]` the place of each listed element in the dense tensor; null: all are listed. Others are zero. */
  places: Int32Array | null;
}

/**
 * Read a `Tensor`: dense, or CSR (compressed sparse rows) of two dimensions.
 *
 * @throws {WireError} if its sizes disagree, or if it has more elements than the budget
 */
export function readTensor(reader: MessageReader, path: string, budget: ElementBudget): RequestTensor {
  let dense: Uint8Array = new Uint8Array();
  let sparse: MessageReader | null = null;
  let dtype = 0;
  let shape: number[] = [];
  while (reader.next()) {
    if (reader.field === 1) {
      dense = reader.bytes(`${path}.dense`);
      sparse = null;
    } else if (reader.field === 2) sparse = reader.message(`${path}.sparse_csr`);
    else if (reader.field === 3) dtype = reader.integer(`${path}.dtype`);
    else if (reader.field === 4) reader.integers(`${path}.shape`, (size) => addSize(shape, size, path));
    else reader.skip();
  }
  const itemBytes = ITEM_BYTES[dtype];
  if (itemBytes === undefined)
    throw new WireError(`${path}.dtype`, `${dtype} is not float32, int64, int32 or bfloat16`);
  // The shape of one dimension may be left out.
  if (shape.length === 0 && sparse === null) shape = [Math.floor(dense.length / itemBytes)];
  const elements = shape.reduce((product, size) => product * size, 1);
  if (elements > budget.remaining) {
    throw new WireError(path, `has the shape [${shape.join(', ')}]: the tensors of the request have too many elements`);
  }
  budget.remaining -= elements;
  if (sparse !== null) return { path, dtype, shape, elements, ...readSparse(sparse, shape, itemBytes, path) };
  if (dense.length !== elements * itemBytes) {
    throw new WireError(
      path,
      `has ${dense.length} bytes, and the shape [${shape.join(', ')}] of ${itemBytes} bytes each`,
    );
  }
  return { path, dtype, shape, elements, data: dense, places: null };
}

/** @throws {WireError} if the elements are not integers of 32 bits */
export function int32Elements({ path, dtype, elements, data, places }: RequestTensor): Int32Array {
  if (dtype !== INT64 && dtype !== INT32) throw new WireError(path, 'must have the dtype int64 or int32');
  const words = new Int32Array(...aligned(data, 4));
  if (dtype === INT32) return scatter(words, places, new Int32Array(places === null ? 0 : elements));
  const ids = new Int32Array(words.length / 2);
  for (let index = 0; index < ids.length; index++) {
    const low = words[2 * index]!;
    if (words[2 * index + 1] !== low >> 31) throw new WireError(path, `has an integer beyond 32 bits at ${index}`);
    ids[index] = low;
  }
  return scatter(ids, places, new Int32Array(places === null ? 0 : elements));
}

/** The elements as float32. Integers are rounded to the nearest. */
export function float32Elements({ dtype, elements, data, places }: RequestTensor): Float32Array {
  return scatter(float32Values(dtype, data), places, new Float32Array(places === null ? 0 : elements));
}

/** The tokens of an `EncodedTextChunk`: a view if its bytes are aligned. */
export function int32Tokens(bytes: Uint8Array, path: string): Int32Array {
  if (bytes.length % 4 !== 0) throw new WireError(path, `has ${bytes.length} bytes, and tokens of 4 bytes each`);
  return new Int32Array(...aligned(bytes, 4));
}

function addSize(shape: number[], size: number, path: string): void {
  if (size < 0) throw new WireError(`${path}.shape`, `has the negative size ${size}`);
  if (shape.length === 2) throw new WireError(`${path}.shape`, 'has more than two dimensions');
  shape.push(size);
}

/** Read a `SparseCsr`. The number of its rows is bounded by its bytes, that of its columns by {@link MAX_TARGETS_EACH}. */
function readSparse(
  reader: MessageReader,
  shape: readonly number[],
  itemBytes: number,
  path: string,
): Pick<RequestTensor, 'data' | 'places'> {
  const [rows, columns] = shape;
  if (rows === undefined || columns === undefined) throw new WireError(path, 'is sparse, and must have two dimensions');
  if (columns > MAX_TARGETS_EACH) {
    throw new WireError(path, `has ${columns} columns, and may have ${MAX_TARGETS_EACH}`);
  }
  let data: Uint8Array = new Uint8Array();
  let rowStarts = data;
  let columnOfEach = data;
  while (reader.next()) {
    if (reader.field === 1) data = reader.bytes(`${path}.values`);
    else if (reader.field === 2) rowStarts = reader.bytes(`${path}.crow_indices`);
    else if (reader.field === 3) columnOfEach = reader.bytes(`${path}.col_indices`);
    else reader.skip();
  }
  const listed = data.length / itemBytes;
  if (!Number.isInteger(listed) || columnOfEach.length !== listed * 8) {
    throw new WireError(path, `has ${listed} values, and ${columnOfEach.length / 8} col_indices`);
  }
  if (rowStarts.length !== (rows + 1) * 8) {
    throw new WireError(path, `has ${rows} rows, and ${rowStarts.length / 8} crow_indices`);
  }
  return { data, places: placesOf(indices(rowStarts), indices(columnOfEach), columns, path) };
}

/** @throws {WireError} unless the rows share out all elements, and the columns of each ascend */
function placesOf(starts: Int32Array, columnOfEach: Int32Array, columns: number, path: string): Int32Array {
  const places = new Int32Array(columnOfEach.length);
  const rows = starts.length - 1;
  if (starts[0] !== 0 || starts[rows] !== places.length) {
    throw new WireError(path, `must have crow_indices from 0 to ${places.length}`);
  }
  for (let row = 0; row < rows; row++) {
    const end = starts[row + 1]!;
    if (end < starts[row]! || end > places.length) throw new WireError(path, `has crow_indices that descend at ${row}`);
    let previous = -1;
    for (let index = starts[row]!; index < end; index++) {
      const column = columnOfEach[index]!;
      if (column <= previous || column >= columns) {
        throw new WireError(
          path,
          `has the column ${column} at ${index}: those of a row ascend, and are below ${columns}`,
        );
      }
      places[index] = row * columns + column;
      previous = column;
    }
  }
  return places;
}

/** Indices of int64, of which one that does not fit is -1, which no index may be. */
function indices(bytes: Uint8Array): Int32Array {
  const words = new Int32Array(...aligned(bytes, 4));
  return Int32Array.from({ length: words.length / 2 }, (_, i) => (words[2 * i + 1] === 0 ? words[2 * i]! : -1));
}

function float32Values(dtype: number, data: Uint8Array): Float32Array {
  if (dtype === FLOAT32) return new Float32Array(...aligned(data, 4));
  if (dtype === INT32) return Float32Array.from(new Int32Array(...aligned(data, 4)));
  if (dtype === INT64) return Float32Array.from(new BigInt64Array(...aligned(data, 8)), Number);
  // A bfloat16 is the upper half of a float32.
  const halves = new Uint16Array(...aligned(data, 2));
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}

/** @param dense `[elements]` zeros, of a sparse tensor */
function scatter<A extends Int32Array | Float32Array>(values: A, places: Int32Array | null, dense: A): A {
  if (places === null) return values;
  for (const [index, place] of places.entries()) dense[place] = values[index]!;
  return dense;
}
