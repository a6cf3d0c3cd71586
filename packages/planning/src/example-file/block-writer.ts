import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { asStorageError, type Digest } from '@lorasmith/storage';

const BLOCK_BYTES = 2 ** 20;

/** Writes a new file block by block and computes its digest. Each block takes about a millisecond and is written synchronously. */
export class BlockWriter {
  readonly #descriptor: number;
  readonly #block = Buffer.allocUnsafe(BLOCK_BYTES);
  readonly #hash = createHash('sha256');
  #filled = 0;
  #bytes = 0;
  #isOpen = true;

  /** @throws ProductError `storage_full` */
  constructor(path: string) {
    try {
      this.#descriptor = openSync(path, 'wx');
    } catch (error) {
      throw asStorageError(error);
    }
  }

  /** @throws ProductError `storage_full` */
  write(bytes: Uint8Array): void {
    let from = 0;
    while (from < bytes.length) {
      const part = bytes.subarray(from, from + BLOCK_BYTES - this.#filled);
      this.#block.set(part, this.#filled);
      this.#filled += part.length;
      from += part.length;
      if (this.#filled === BLOCK_BYTES) this.#flush();
    }
  }

  /** @throws ProductError `storage_full` */
  finish(): Digest {
    this.#flush();
    this.close();
    return { sha256: this.#hash.digest('hex'), bytes: this.#bytes };
  }

  /** Harmless after {@link finish}. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#descriptor);
  }

  #flush(): void {
    const block = this.#block.subarray(0, this.#filled);
    this.#hash.update(block);
    this.#bytes += block.length;
    try {
      // A write may be partial, most often just before the disk is full.
      for (let written = 0; written < block.length; ) written += writeSync(this.#descriptor, block, written);
    } catch (error) {
      throw asStorageError(error);
    }
    this.#filled = 0;
  }
}
