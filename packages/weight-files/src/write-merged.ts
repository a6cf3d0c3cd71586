import { availableParallelism } from 'node:os';
import { addon, type FilePart, type MergeInstructions, type NativeTensor, systemError } from './addon.js';
import type { BlockScales } from './read-ranges.js';

/** A LoRA update, `scale · B A`, of a weight. */
export interface WeightUpdate {
  dtype: 'F32' | 'F16' | 'BF16';
  /** Shape of the weight: `[outFeatures, inFeatures]`, or the other way round where it is stored transposed. */
  shape: readonly [number, number];
  /** True if the weight is stored as `[inFeatures, outFeatures]`, as in GPT-2. */
  transposed: boolean;
  /** `[rank, inFeatures]` */
  a: Float32Array;
  /** `[outFeatures, rank]` */
  b: Float32Array;
  rank: number;
  scale: number;
}

type StoredDtype = 'F32' | 'F16' | 'BF16';

/**
 * The types of GGUF, the last two in blocks of 32 numbers. Q8_0: a float16 scale and 32 signed bytes. MXFP4: an exponent in a byte
 * and 32 codes of 4 bits, which only a weight that is stored so becomes.
 */
type WrittenType = StoredDtype | 'Q8_0' | 'MXFP4';

/** Consecutive rows or columns of a matrix. */
export interface IndexRange {
  first: number;
  count: number;
}

/** A tensor's change when it is written: another type, or another order of rows or columns. */
export interface TensorConversion {
  from: StoredDtype;
  to: WrittenType;
  /** The stored shape: `[rows, width]`; a vector is one row. */
  shape: readonly [number, number];
  /** Write it as `[width, rows]`. An update is then that of the written tensor. @defaultValue false */
  transposed?: boolean;
  /**
   * Rows of an attention head. Its two halves are interleaved: row s · headRows/2 + j of a head becomes its row 2j + s.
   * @defaultValue the rows stay in order
   */
  headRows?: number;
  /** Added to every number, in float32. @defaultValue 0 */
  added?: number;
  /** The stored rows that are written, in this order; not with `transposed` or `headRows`. @defaultValue all of them */
  rowOrder?: readonly IndexRange[] | undefined;
  /**
   * One row of each group of `of` is written, the one with this index in it. The rows are those that would be written without it; not
   * with `rowOrder` or `headRows`. @defaultValue all rows
   */
  rowOfEach?: { index: number; of: number } | undefined;
  /** All stored columns in the order in which they are written; not with `transposed`. @defaultValue as they are stored */
  columnOrder?: readonly IndexRange[] | undefined;
}

/** A weight in 8 bits (E4M3) with a scale for each block. */
export interface ScaledBlocks {
  /** `[out, in]` */
  shape: readonly [number, number];
  blocks: BlockScales;
}

/** A weight in MXFP4, whose scales are exponents in bytes. It is decoded to `[in, out]`. */
export interface Mxfp4Storage {
  /** `[out, in]`: in is a multiple of 32 */
  shape: readonly [number, number];
  exponents: FilePart;
}

/** A weight that is stored in this dtype, and quantized as it is when a model is loaded with NF4. */
export interface QuantizedHere {
  /** `[out, in]` */
  shape: readonly [number, number];
  numbers: StoredDtype;
}

/**
 * A weight in 4 bits as bitsandbytes stores it: number i is `values[code i] · scale` of its block of 64. With double
 * quantization a scale is `values[code] · scale of its block of 256 scales + offset`.
 */
export interface QuantizedStorage {
  /** `[out, in]` */
  shape: readonly [number, number];
  /** `[16]`: what the codes stand for. */
  values: Float32Array;
  /** float32, or codes of 8 bits with double quantization. */
  scales: FilePart;
  nested: { values: Float32Array; offset: number; scales: FilePart } | null;
}

/** A part of an open file, copied, merged or converted. It is merged first, and then rounded to its stored dtype. */
export interface StoredTensor {
  /** File descriptor, open for reading. */
  fd: number;
  /** Offset from the start of the file, in bytes. */
  offset: number;
  bytes: number;
  /** The part of the file has the codes of such a weight, or its numbers: it is decoded to bfloat16, which is then its stored dtype. */
  quantized?: QuantizedStorage | QuantizedHere | ScaledBlocks | Mxfp4Storage;
  update?: WeightUpdate;
  conversion?: TensorConversion;
}

/** Bytes of the memory, copied or converted. They are not transposed. */
export interface TensorInMemory {
  content: Uint8Array;
  conversion?: TensorConversion;
}

/** A tensor to write. */
export type TensorSource = StoredTensor | TensorInMemory;

export interface WriteMergedOptions {
  /** File descriptor of the new file, open for writing and empty. */
  output: number;
  /** The beginning of the file. */
  header: Uint8Array;
  /** They are written one after the other behind the header. */
  tensors: readonly TensorSource[];
  /** Called about twice a second, and at the end, with the written bytes of tensors. */
  onProgress?: (doneBytes: number) => void;
  signal?: AbortSignal;
  /** @defaultValue the number of cores, at most 16: more would only wait for the hash */
  threads?: number;
  /** The instructions, for tests. All give the same bytes. @defaultValue the best of {@link mergeInstructions} */
  instructions?: MergeInstructions;
}

/** The fault of one tensor: written numbers are not finite in their type, or its file is too short. */
export class TensorFault extends Error {
  override name = 'TensorFault';
  /** Its place in `tensors`. */
  readonly index: number;
  readonly fault: 'not-finite' | 'truncated' | 'unreadable';

  constructor(index: number, fault: TensorFault['fault'], options?: ErrorOptions) {
    super(`tensor ${index} is ${fault}`, options);
    this.index = index;
    this.fault = fault;
  }
}

const PROGRESS_INTERVAL_MS = 500;

/** Hashing is in order, so it uses one core; the others must only keep up with it. */
const MAX_THREADS = 16;

/**
 * Writes the tensors of a weight file in one pass on all cores: a block of a megabyte is read, merged in float32, rounded
 * once, converted if that is asked for, written and hashed while it is in the cache. Memory: eight such blocks for each thread, as
 * read and as converted, and a copy of the larger factor of some updates. A weight whose update is 0 keeps its numbers.
 *
 * @returns the sha256 of the file, hexadecimal
 * @throws TensorFault; the system's error when it cannot be written; the signal's reason when it is aborted. The file is then
 * incomplete.
 */
export async function writeMerged(options: WriteMergedOptions): Promise<string> {
  const {
    output,
    header,
    tensors,
    onProgress,
    signal,
    threads = Math.min(MAX_THREADS, availableParallelism()),
    instructions = '',
  } = options;
  signal?.throwIfAborted();
  // Shared with the threads: the bytes that are done, and whether to stop.
  const control = new BigInt64Array(2);
  const stop = () => {
    control[1] = 1n;
  };
  signal?.addEventListener('abort', stop);
  // A process that exits waits for the threads of libuv.
  process.once('exit', stop);
  const reportProgress = () => onProgress?.(Number(control[0]));
  const timer = setInterval(reportProgress, PROGRESS_INTERVAL_MS);
  try {
    const native = tensors.map(nativeTensor);
    const sha256 = await addon.writeMerged({ output, header, tensors: native, control, threads, instructions });
    reportProgress();
    return sha256;
  } catch (error) {
    signal?.throwIfAborted();
    throw faultOf(error);
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', stop);
    process.off('exit', stop);
  }
}

/** The sets of instructions that this processor has for merging, best first. */
export function mergeInstructions(): MergeInstructions[] {
  return addon.mergeInstructions();
}

/** Bytes of `count` numbers, which are a whole number of blocks. */
export function writtenBytes(type: WrittenType, count: number): number {
  if (type === 'Q8_0') return (count / 32) * 34;
  if (type === 'MXFP4') return (count / 32) * 17;
  return count * (type === 'F32' ? 4 : 2);
}

/** @throws RangeError when sizes do not fit together: the addon does not check them */
function nativeTensor(source: TensorSource): NativeTensor {
  const { conversion } = source;
  if ('content' in source) {
    const bytes = source.content.byteLength;
    const native = { fd: -1, offset: 0, bytes, content: source.content };
    return { ...native, ...(conversion && { conversion: nativeConversion(conversion, bytes) }) };
  }
  const { fd, offset, update, quantized } = source;
  const bytes = quantized === undefined ? source.bytes : writtenBytes('BF16', quantized.shape[0] * quantized.shape[1]);
  return {
    ...{ fd, offset, bytes },
    ...(quantized && { quantized: nativeQuantized(quantized, source.bytes) }),
    ...(update && { update: nativeUpdate(update, bytes) }),
    ...(conversion && { conversion: nativeConversion(conversion, bytes, update, quantized) }),
  };
}

function nativeQuantized(
  quantized: QuantizedStorage | QuantizedHere | ScaledBlocks | Mxfp4Storage,
  bytes: number,
): NonNullable<NativeTensor['quantized']> {
  const [rows, width] = quantized.shape;
  const numbers = rows * width;
  if ('blocks' in quantized) {
    const { columns, scales: blockScales, block } = quantized.blocks;
    const [blockRows, blockColumns] = block;
    const count = Math.ceil(rows / blockRows) * Math.ceil(width / blockColumns);
    if (numbers === 0 || bytes !== numbers || columns !== width || blockScales.length !== count) {
      throw new RangeError(`the scales of a weight of [${rows}, ${width}] do not fit`);
    }
    return { rows, width, blockScales, blockRows, blockColumns };
  }
  if ('exponents' in quantized) {
    const { exponents } = quantized;
    if (numbers === 0 || width % 32 !== 0 || bytes !== numbers / 2 || exponents.bytes !== numbers / 32) {
      throw new RangeError(`the parts of a weight of [${rows}, ${width}] in MXFP4 do not fit together`);
    }
    return { rows, width, exponents };
  }
  if ('numbers' in quantized) {
    if (numbers === 0 || bytes !== writtenBytes(quantized.numbers, numbers)) {
      throw new RangeError(`a weight of [${rows}, ${width}] in ${quantized.numbers} has not ${bytes} bytes`);
    }
    return { rows, width, isMadeHere: true, numbers: quantized.numbers };
  }
  const { values, scales, nested } = quantized;
  const blocks = Math.ceil(numbers / 64);
  const fits =
    nested === null
      ? scales.bytes === 4 * blocks
      : scales.bytes === blocks && nested.scales.bytes === 4 * Math.ceil(blocks / 256) && nested.values.length === 256;
  if (!fits || numbers === 0 || bytes !== Math.ceil(numbers / 2) || values.length !== 16) {
    throw new RangeError(`the parts of a quantized weight of [${rows}, ${width}] do not fit together`);
  }
  // In the order of native/quantized_matrix.h.
  const module = Float32Array.of(0, 0, nested?.offset ?? 0, ...values, ...(nested?.values ?? new Float32Array(256)));
  return { rows, width, isMadeHere: false, scales, module, ...(nested && { nestedScales: nested.scales }) };
}

function nativeUpdate(update: WeightUpdate, bytes: number): NonNullable<NativeTensor['update']> {
  const { dtype, shape, transposed, a, b, rank, scale } = update;
  const [rows, width] = shape;
  const [outFeatures, inFeatures] = transposed ? [width, rows] : [rows, width];
  if (
    bytes !== writtenBytes(dtype, rows * width) ||
    bytes === 0 ||
    rank < 1 ||
    a.length !== rank * inFeatures ||
    b.length !== rank * outFeatures
  ) {
    throw new RangeError(`an update of rank ${rank} does not fit a weight of [${rows}, ${width}] in ${bytes} bytes`);
  }
  return { dtype, rows, width, a, b, rank, scale, transposed };
}

function nativeConversion(
  conversion: TensorConversion,
  bytes: number,
  update?: WeightUpdate,
  quantized?: StoredTensor['quantized'],
): NonNullable<NativeTensor['conversion']> {
  const { from, to, shape, transposed = false, headRows = 0, added = 0, rowOrder = [], columnOrder = [] } = conversion;
  const { index: rowInStep, of: rowStep } = conversion.rowOfEach ?? { index: 0, of: 1 };
  const isKept = quantized !== undefined && 'exponents' in quantized && transposed && update === undefined;
  const [rows, width] = shape;
  const [writtenRows, writtenWidth] = transposed ? [width, rows] : [rows, width];
  const ordered = [...rowOrder, ...columnOrder];
  const columns = columnOrder.reduce((sum, { count }) => sum + count, 0);
  if (
    (ordered.length > 0 && transposed) ||
    (quantized !== undefined && 'blocks' in quantized && transposed) ||
    (rowOrder.length > 0 && headRows !== 0) ||
    !rowOrder.every(isWithin(rows)) ||
    !columnOrder.every(isWithin(width)) ||
    (columnOrder.length > 0 && columns !== width) ||
    bytes !== writtenBytes(from, rows * width) ||
    (to === 'Q8_0' && writtenWidth % 32 !== 0) ||
    (to === 'MXFP4' && !isKept) ||
    (rowStep !== 1 && (rowOrder.length > 0 || headRows !== 0)) ||
    !(rowStep >= 1 && writtenRows % rowStep === 0 && rowInStep >= 0 && rowInStep < rowStep) ||
    (headRows !== 0 && (headRows % 2 !== 0 || writtenRows % headRows !== 0)) ||
    (update && (update.dtype !== from || update.shape[0] !== writtenRows || update.shape[1] !== writtenWidth))
  ) {
    throw new RangeError(`a conversion from ${from} to ${to} does not fit a weight of [${rows}, ${width}]`);
  }
  const numbers = (ranges: readonly IndexRange[]) =>
    Float64Array.from(ranges.flatMap((each) => [each.first, each.count]));
  const orders = { rowOrder: numbers(rowOrder), columnOrder: numbers(columnOrder) };
  return { from, to, rows, width, transposed, headRows, added, rowStep, rowInStep, ...orders };
}

function isWithin(size: number) {
  return ({ first, count }: IndexRange) => first >= 0 && count > 0 && first + count <= size;
}

function faultOf(error: unknown): unknown {
  const { code, syscall, index } = error as { code?: string; syscall?: string; index?: number };
  if (index === undefined) return systemError(error);
  if (code === 'ERR_NOT_FINITE') return new TensorFault(index, 'not-finite');
  if (code === 'ERR_TRUNCATED') return new TensorFault(index, 'truncated');
  return new TensorFault(index, 'unreadable', { cause: syscall === undefined ? error : systemError(error) });
}
