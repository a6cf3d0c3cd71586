import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SafetensorsError } from './dtype.js';
import {
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  parseHeader,
  safetensorsHeader,
  type TensorDescription,
  type TensorEntry,
} from './header.js';

/** Limit of a typed array on Node 20. */
const MAX_TENSOR_BYTES = 2 ** 32;

/** Bytes per system call, which cannot read 2 GiB or more. */
const MOST_READ_BYTES = 2 ** 28;

/** An open safetensors file: its header in memory, its data on disk. */
export interface SafetensorsFile {
  readonly path: string;
  /** File descriptor, open until `close`. */
  readonly fd: number;
  readonly sizeBytes: number;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;

  /**
   * Reads one tensor's bytes, little-endian and row-major.
   *
   * @param into target, at least as long as the tensor; default: a new buffer with offset 0
   * @returns exactly the tensor's bytes: the new buffer, or the start of `into`
   * @throws SafetensorsError tensor_not_found, tensor_too_large (over 4 GiB), file_truncated
   */
  read(name: string, into?: Uint8Array): Promise<Uint8Array>;

  /**
   * Fills `into` with a tensor's bytes, starting at `begin`.
   *
   * @throws RangeError when the tensor is too short; SafetensorsError tensor_not_found, file_truncated
   */
  readRange(name: string, begin: number, into: Uint8Array): Promise<void>;

  close(): Promise<void>;
}

export interface OpenOptions {
  /** Limit for the header. @defaultValue 100,000,000 */
  maxHeaderBytes?: number;
}

/**
 * Opens a safetensors file and checks its complete header. Data is read tensor by tensor.
 *
 * Format: https://github.com/huggingface/safetensors#format
 *
 * @throws SafetensorsError when the file is invalid; the system's error when it cannot be opened
 */
export async function openSafetensors(path: string, options: OpenOptions = {}): Promise<SafetensorsFile> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const text = await readHeaderBytes(handle, size, options.maxHeaderBytes ?? MAX_HEADER_BYTES);
    const { tensors, metadata } = parseHeader(text, size);
    const entryOf = (name: string): TensorEntry => {
      const entry = tensors.get(name);
      if (!entry) throw new SafetensorsError('tensor_not_found', `there is no tensor ${JSON.stringify(name)}`);
      return entry;
    };
    return {
      path,
      fd: handle.fd,
      sizeBytes: size,
      tensors,
      metadata,
      read: async (name, into) => await readEntry(handle, entryOf(name), into),
      readRange: async (name, begin, into) => {
        const { byteOffset, byteLength } = entryOf(name);
        if (begin < 0 || begin + into.byteLength > byteLength) {
          throw new RangeError(`${name} does not have ${into.byteLength} bytes from ${begin}`);
        }
        await readFully(handle, into, byteOffset + begin);
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readHeaderBytes(handle: FileHandle, fileBytes: number, maxHeaderBytes: number): Promise<Uint8Array> {
  if (fileBytes < LENGTH_BYTES) {
    throw new SafetensorsError('file_truncated', `the file has ${fileBytes} bytes and no header`);
  }
  const length = new Uint8Array(LENGTH_BYTES);
  await readFully(handle, length, 0);
  const headerBytes = new DataView(length.buffer).getBigUint64(0, true);
  if (headerBytes > BigInt(maxHeaderBytes)) {
    throw new SafetensorsError(
      'header_too_large',
      `the header has ${headerBytes} bytes; the limit is ${maxHeaderBytes}`,
    );
  }
  if (headerBytes > BigInt(fileBytes - LENGTH_BYTES)) {
    throw new SafetensorsError('file_truncated', 'the header extends past the end of the file');
  }
  const text = new Uint8Array(Number(headerBytes));
  await readFully(handle, text, LENGTH_BYTES);
  return text;
}

async function readEntry(handle: FileHandle, entry: TensorEntry, into?: Uint8Array): Promise<Uint8Array> {
  const { name, byteLength } = entry;
  if (byteLength > MAX_TENSOR_BYTES) {
    throw new SafetensorsError('tensor_too_large', `tensor ${JSON.stringify(name)} has ${byteLength} bytes`);
  }
  if (into && into.byteLength < byteLength) {
    throw new RangeError(`${name} has ${byteLength} bytes, more than the ${into.byteLength} of the buffer`);
  }
  const target = into ? into.subarray(0, byteLength) : new Uint8Array(byteLength);
  await readFully(handle, target, entry.byteOffset);
  return target;
}

async function readFully(handle: FileHandle, target: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < target.byteLength) {
    const wanted = Math.min(MOST_READ_BYTES, target.byteLength - done);
    const { bytesRead } = await handle.read(target, done, wanted, position + done);
    // The file was truncated after its size was checked.
    if (bytesRead === 0) throw new SafetensorsError('file_truncated', 'the file ended while it was read');
    done += bytesRead;
  }
}

/** A tensor to write: its bytes, or a function that gets them. */
export interface TensorToWrite extends TensorDescription {
  data: Uint8Array | (() => Promise<Uint8Array> | Uint8Array);
}

/**
 * Writes a safetensors file atomically: a temporary file next to it, synced, then renamed.
 *
 * If `data` is a function, it is called when its tensor is written, so only one tensor is in memory at a time.
 *
 * @throws SafetensorsError size_mismatch when the data does not match dtype and shape; and as safetensorsHeader
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { header, entries } = safetensorsHeader(tensors, metadata);
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx');
    try {
      await writeFully(handle, header);
      for (const { name, data, byteLength } of entries) {
        const bytes = typeof data === 'function' ? await data() : data;
        if (bytes.byteLength !== byteLength) {
          const what = `tensor ${JSON.stringify(name)} needs ${byteLength} bytes, not ${bytes.byteLength}`;
          throw new SafetensorsError('size_mismatch', what);
        }
        await writeFully(handle, bytes);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** A single write may be partial, and cannot be 2 GiB or more. */
async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  const mostBytes = 2 ** 28;
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(mostBytes, bytes.byteLength - done));
    done += bytesWritten;
  }
}

/** A power failure can undo a rename until its folder is synced. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
