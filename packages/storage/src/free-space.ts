import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';
import { asStorageError, storageFull } from './storage-error.js';

const MAX_TRIES = 5;
const PAUSE_MS = 500;

/** Bytes that this process may still write to the file system of a folder. */
export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * Writes a large file of known size, and never fills the disk for it: without enough free space nothing is written, so
 * what others write at that moment does not fail. If another writer takes the space meanwhile, it is tried again.
 *
 * @param write - Leaves nothing behind when it fails
 * @throws ProductError `storage_full`; errors of `write`
 */
export async function writeWithinSpace(folder: string, bytes: number, write: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    const free = await freeBytesOf(folder);
    if (free < bytes) throw storageFull(`: ${bytes} bytes are needed and ${free} are free`);
    try {
      await write();
      return;
    } catch (error) {
      const thrown = asStorageError(error);
      const isFull = thrown instanceof ProductError && thrown.code === 'storage_full';
      if (!isFull || tries === MAX_TRIES) throw thrown;
      await sleep(PAUSE_MS);
    }
  }
}
