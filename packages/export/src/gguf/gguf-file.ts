import { open, rm } from 'node:fs/promises';
import { type TensorSource, writeMerged, writtenBytes } from '@lorasmith/weight-files';

/** A value of the metadata, with its type in the file. */
export type MetadataValue =
  | { type: 'uint32'; value: number }
  | { type: 'float32'; value: number }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'strings'; value: readonly string[] }
  | { type: 'bools'; value: readonly boolean[] }
  | { type: 'int32s'; value: readonly number[] }
  | { type: 'float32s'; value: readonly number[] };

/** Metadata in the order of the file. */
type Metadata = ReadonlyMap<string, MetadataValue>;

/** The types that one can ask for. */
export const GGUF_TYPES = ['F32', 'F16', 'BF16', 'Q8_0'] as const;
export type GgufType = (typeof GGUF_TYPES)[number];

/** The type of a tensor in a file: weights of experts that are stored in MXFP4 stay so where no adapter changes them. */
export type WrittenType = GgufType | 'MXFP4';

/** Numbers in a block of a type. A row is a whole number of blocks. */
export const BLOCK_NUMBERS: Readonly<Record<GgufType, number>> = { F32: 1, F16: 1, BF16: 1, Q8_0: 32 };

/** `enum ggml_type`. */
const TYPE_NUMBERS: Readonly<Record<WrittenType, number>> = { F32: 0, F16: 1, BF16: 30, Q8_0: 8, MXFP4: 39 };

interface TensorInfo {
  name: string;
  type: WrittenType;
  /** Row-major, as in PyTorch. */
  shape: readonly number[];
}

/** The positions of everything in a GGUF file. */
interface GgufLayout {
  /** Magic, metadata, table of tensors and the padding behind them. */
  header: Uint8Array;
  /** Bytes of zeros behind each tensor. */
  paddings: number[];
  totalBytes: number;
}

const VERSION = 3;
const ALIGNMENT = 32;
const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

/**
 * Lays out a GGUF file of version 3, as gguf-py does.
 *
 * Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
function layOutGguf(metadata: Metadata, tensors: readonly TensorInfo[]): GgufLayout {
  const writer = new ByteWriter();
  writer.uint32(0x46554747); // "GGUF"
  writer.uint32(VERSION);
  writer.uint64(tensors.length);
  writer.uint64(metadata.size);
  for (const [key, value] of metadata) {
    writer.text(key);
    writeValue(writer, value);
  }
  const paddings: number[] = [];
  let offset = 0;
  for (const { name, type, shape } of tensors) {
    writer.text(name);
    writer.uint32(shape.length);
    for (const size of [...shape].reverse()) writer.uint64(size);
    writer.uint32(TYPE_NUMBERS[type]);
    writer.uint64(offset);
    const bytes = tensorBytes({ type, shape });
    paddings.push(paddingAfter(bytes));
    offset += bytes + paddings.at(-1)!;
  }
  writer.zeros(paddingAfter(writer.length));
  const header = writer.bytes();
  return { header, paddings, totalBytes: header.byteLength + offset };
}

export function tensorBytes({ type, shape }: Pick<TensorInfo, 'type' | 'shape'>): number {
  const count = shape.reduce((product, size) => product * size, 1);
  return writtenBytes(type, count);
}

function paddingAfter(bytes: number): number {
  return (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;
}

function writeValue(writer: ByteWriter, entry: MetadataValue): void {
  switch (entry.type) {
    case 'uint32':
      writer.uint32(VALUE_TYPES.uint32);
      writer.uint32(entry.value);
      break;
    case 'float32':
      writer.uint32(VALUE_TYPES.float32);
      writer.numbers(Float32Array.of(entry.value));
      break;
    case 'bool':
      writer.uint32(VALUE_TYPES.bool);
      writer.append(Uint8Array.of(entry.value ? 1 : 0));
      break;
    case 'string':
      writer.uint32(VALUE_TYPES.string);
      writer.text(entry.value);
      break;
    case 'strings':
      writer.arrayOf(VALUE_TYPES.string, entry.value.length);
      for (const text of entry.value) writer.text(text);
      break;
    case 'bools':
      writer.arrayOf(VALUE_TYPES.bool, entry.value.length);
      writer.append(Uint8Array.from(entry.value, Number));
      break;
    case 'int32s':
      writer.arrayOf(VALUE_TYPES.int32, entry.value.length);
      writer.numbers(Int32Array.from(entry.value));
      break;
    case 'float32s':
      writer.arrayOf(VALUE_TYPES.float32, entry.value.length);
      writer.numbers(Float32Array.from(entry.value));
      break;
  }
}

/** Little-endian values one behind the other. */
class ByteWriter {
  #bytes = Buffer.alloc(2 ** 16);
  length = 0;

  uint32(value: number): void {
    this.#reserve(4);
    this.#bytes.writeUInt32LE(value, this.length);
    this.length += 4;
  }

  uint64(value: number): void {
    this.#reserve(8);
    this.#bytes.writeBigUInt64LE(BigInt(value), this.length);
    this.length += 8;
  }

  text(text: string): void {
    const bytes = Buffer.byteLength(text);
    this.uint64(bytes);
    this.#reserve(bytes);
    this.#bytes.write(text, this.length);
    this.length += bytes;
  }

  arrayOf(elementType: number, count: number): void {
    this.uint32(VALUE_TYPES.array);
    this.uint32(elementType);
    this.uint64(count);
  }

  numbers(values: Float32Array | Int32Array): void {
    this.append(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.byteLength;
  }

  zeros(count: number): void {
    this.append(new Uint8Array(count));
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  #reserve(bytes: number): void {
    if (this.length + bytes <= this.#bytes.byteLength) return;
    const larger = Buffer.alloc(2 * (this.length + bytes));
    this.#bytes.copy(larger, 0, 0, this.length);
    this.#bytes = larger;
  }
}

/** A tensor of the file, and where its numbers come from: its parts, one behind the other. */
export interface GgufTensorSource extends TensorInfo {
  parts: readonly TensorSource[];
}

interface WriteGgufFileOptions {
  path: string;
  metadata: Metadata;
  tensors: readonly GgufTensorSource[];
  onProgress?(doneBytes: number, totalBytes: number): void;
  signal?: AbortSignal | undefined;
}

/**
 * Writes a new GGUF file in one pass and syncs it.
 * @returns its sha256, hexadecimal, and its bytes
 * @throws as `writeMerged` of weight-files, where the index of a tensor counts those of `tensors`. The file is then removed.
 */
export async function writeGgufFile(options: WriteGgufFileOptions): Promise<{ bytes: number; sha256: string }> {
  const { path, metadata, tensors, signal } = options;
  const { header, paddings, totalBytes } = layOutGguf(metadata, tensors);
  // Behind the parts of each tensor are zeros up to the next.
  const sources = tensors.flatMap(({ parts }, index) => [...parts, { content: new Uint8Array(paddings[index]!) }]);
  const dataBytes = totalBytes - header.byteLength;
  const handle = await open(path, 'wx');
  try {
    const sha256 = await writeMerged({
      ...{ output: handle.fd, header, tensors: sources },
      onProgress: (doneBytes) => options.onProgress?.(doneBytes, dataBytes),
      ...(signal && { signal }),
    });
    await handle.sync();
    return { bytes: totalBytes, sha256 };
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** The tensor of a part, and which of its parts it is, by the index of a TensorFault. */
export function tensorOfFault<Tensor extends Pick<GgufTensorSource, 'parts'>>(
  tensors: readonly Tensor[],
  index: number,
): { tensor: Tensor; part: number } {
  let first = 0;
  for (const tensor of tensors) {
    const { length } = tensor.parts;
    if (index <= first + length) return { tensor, part: index - first };
    first += length + 1;
  }
  throw new RangeError(`no tensor has the part ${index}`);
}
