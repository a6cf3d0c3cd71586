import { availableParallelism } from 'node:os';
import { addon, type MergeInstructions, type NativeTensor, systemError } from './addon.js';

/** A LoRA update, `scale · B A`, of a weight. */
export interface WeightUpdate {
  dtype: 'F32' | 'F16' | 'BF16';
  /** Of the weight: `[outFeatures, inFeatures]`, or the other way round where it is stored transposed. */
  shape: readonly [number, number];
  /** Whether the weight is stored as `[inFeatures, outFeatures]`, as in GPT-2. */
  transposed: boolean;
  /** `[rank, inFeatures]` */
  a: Float32Array;
  /** `[outFeatures, rank]` */
  b: Float32Array;
  rank: number;
  scale: number;
}

/** A tensor to write: a part of an open file, copied or merged. */
export interface TensorSource {
  /** File descriptor, open for reading. */
  fd: number;
  /** From the start of the file, in bytes. */
  offset: number;
  bytes: number;
  update?: WeightUpdate;
}

export interface WriteMergedOptions {
  /** File descriptor of the new file, open for writing and empty. */
  output: number;
  /** The beginning of the file. */
  header: Uint8Array;
  /** They are written one after the other behind the header. */
  tensors: readonly TensorSource[];
  /** Called about twice a second, and at the end, with the bytes of tensors that are done. */
  onProgress?: (doneBytes: number) => void;
  signal?: AbortSignal;
  /** @defaultValue the number of cores, at most 16: more would only wait for the hash */
  threads?: number;
  /** For tests. All give the same bytes. @defaultValue the best of {@link mergeInstructions} */
  instructions?: MergeInstructions;
}

/** What is wrong with one tensor: the merged numbers are not finite in its dtype, or its file is too short. */
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
 * Writes the tensors of a weight file in one pass on all cores: a piece of a megabyte is read, merged in float32, rounded
 * once, written and hashed while it is in the cache. Memory: eight such pieces for each thread, and a copy of the larger
 * factor of some updates. A weight whose update is 0 keeps its numbers.
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

/** @throws RangeError when sizes do not fit together: the addon does not check them */
function nativeTensor({ fd, offset, bytes, update }: TensorSource): NativeTensor {
  if (update === undefined) return { fd, offset, bytes };
  const { dtype, shape, transposed, a, b, rank, scale } = update;
  const [rows, width] = shape;
  const [outFeatures, inFeatures] = transposed ? [width, rows] : [rows, width];
  const elementBytes = dtype === 'F32' ? 4 : 2;
  if (
    bytes !== rows * width * elementBytes ||
    bytes === 0 ||
    rank < 1 ||
    a.length !== rank * inFeatures ||
    b.length !== rank * outFeatures
  ) {
    throw new RangeError(`an update of rank ${rank} does not fit a weight of [${rows}, ${width}] in ${bytes} bytes`);
  }
  return { fd, offset, bytes, update: { dtype, rows, width, a, b, rank, scale, transposed } };
}

function faultOf(error: unknown): unknown {
  const { code, syscall, index } = error as { code?: string; syscall?: string; index?: number };
  if (index === undefined) return systemError(error);
  if (code === 'ERR_NOT_FINITE') return new TensorFault(index, 'not-finite');
  if (code === 'ERR_TRUNCATED') return new TensorFault(index, 'truncated');
  return new TensorFault(index, 'unreadable', { cause: syscall === undefined ? error : systemError(error) });
}
