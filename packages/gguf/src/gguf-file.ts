import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { isMissing, unreadable } from '@lorasmith/model-folder';
import { OutOfBytes } from './byte-cursor.js';
import { type GgufHeader, type GgufTensor, parseGgufHeader } from './gguf-header.js';

/** Enough for the header of nearly every model. */
const FIRST_READ_BYTES = 16 * 2 ** 20;
const MAX_HEADER_BYTES = 256 * 2 ** 20;
/** Limits, for docs/limits.md. */
export const ggufLimits = {
  header: { value: MAX_HEADER_BYTES, unit: 'bytes', beyond: 'the file is not imported' },
};
const MAX_TENSOR_BYTES = 2 ** 32;
const READ_PIECE_BYTES = 2 ** 28;

/** An open GGUF file: its header in memory, its data on disk. */
export interface GgufFile extends GgufHeader {
  readonly name: string;
  /** Reads the stored bytes of a tensor. */
  read(tensor: GgufTensor): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** @throws ProductError model_file_missing, model_file_corrupt, model_not_supported */
export async function openGguf(path: string): Promise<GgufFile> {
  const name = basename(path);
  const { handle, size } = await openFile(path, name);
  try {
    const header = await readHeader(handle, size, name);
    return {
      ...header,
      name,
      read: async (tensor) => {
        if (tensor.byteLength > MAX_TENSOR_BYTES) {
          throw new ProductError('model_not_supported', `${name}: tensor ${tensor.name} is larger than 4 GiB.`);
        }
        return await readFully(handle, tensor.byteOffset, tensor.byteLength, name);
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openFile(path: string, name: string): Promise<{ handle: FileHandle; size: number }> {
  try {
    const status = await stat(path);
    if (!status.isFile()) throw new ProductError('model_file_corrupt', `${name} is not a file.`);
    return { handle: await open(path, 'r'), size: status.size };
  } catch (error) {
    if (isMissing(error)) throw new ProductError('model_file_missing', `The file ${path} does not exist.`);
    throw unreadable(error, name);
  }
}

/** The length of the header is unknown. Reads the start of the file, and doubles the length until it is enough. */
async function readHeader(handle: FileHandle, fileBytes: number, name: string): Promise<GgufHeader> {
  for (let length = FIRST_READ_BYTES; ; length *= 2) {
    const start = await readFully(handle, 0, Math.min(length, fileBytes), name);
    try {
      return parseGgufHeader(start, fileBytes, name);
    } catch (error) {
      if (!(error instanceof OutOfBytes)) throw error;
    }
    if (length >= fileBytes) {
      throw new ProductError('model_file_corrupt', `${name} ends within its header. Download it again.`);
    }
    if (length >= MAX_HEADER_BYTES) {
      throw new ProductError('model_file_corrupt', `${name} has a header over ${MAX_HEADER_BYTES} bytes.`);
    }
  }
}

async function readFully(handle: FileHandle, position: number, byteLength: number, name: string): Promise<Uint8Array> {
  const target = new Uint8Array(byteLength);
  let done = 0;
  while (done < byteLength) {
    const piece = Math.min(READ_PIECE_BYTES, byteLength - done);
    const { bytesRead } = await handle.read(target, done, piece, position + done);
    if (bytesRead === 0) throw new ProductError('model_file_corrupt', `${name} ended while it was read.`);
    done += bytesRead;
  }
  return target;
}
