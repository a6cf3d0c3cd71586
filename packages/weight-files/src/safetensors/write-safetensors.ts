import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SafetensorsError } from './safetensors-error.js';
import { safetensorsHeader, type TensorDescription } from './safetensors-header.js';

/** A tensor to write: its bytes, or a function that gets them. */
export interface TensorToWrite extends TensorDescription {
  data: Uint8Array | (() => Promise<Uint8Array> | Uint8Array);
}

/**
 * Writes a safetensors file atomically: a temporary file beside it, synced, then renamed.
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
  const pieceBytes = 2 ** 28;
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(pieceBytes, bytes.byteLength - done));
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
