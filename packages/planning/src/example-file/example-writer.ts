import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { asStorageError, type Digest } from '@lorasmith/storage';
import { EXAMPLE_FILES, type ExampleRecord, type ExampleSummary, RECORD_BYTES, writeRecord } from './example-format.js';

/** An example as it is written. */
export interface NewExample extends Omit<ExampleRecord, 'start' | 'codes'> {
  codes: Int32Array;
}

/** Writes examples one after the other, with at most one block of them in memory. */
export class ExampleWriter {
  readonly #index: RecordWriter;
  readonly #codes: BlockWriter;
  #start = 0;

  /**
   * @param folder an empty one
   * @throws ProductError `storage_full`, as the other calls do
   */
  constructor(folder: string) {
    this.#index = new RecordWriter(join(folder, EXAMPLE_FILES.index));
    this.#codes = new BlockWriter(join(folder, EXAMPLE_FILES.words));
  }

  get count(): number {
    return this.#index.count;
  }

  add({ codes, ...record }: NewExample): void {
    this.addRecord({ codes: codes.length, ...record });
    this.addCodes(codes);
  }

  /** Adds the record of the next example; its codes are added apart, in the same order. */
  addRecord(record: Omit<ExampleRecord, 'start'>): void {
    this.#index.add({ start: this.#start, ...record });
    this.#start += record.codes;
  }

  /** Adds the codes of one example or several. */
  addCodes({ buffer, byteOffset, byteLength }: Int32Array): void {
    this.#codes.write(new Uint8Array(buffer, byteOffset, byteLength));
  }

  finish(): ExampleSummary['files'] {
    return { index: this.#index.finish(), words: this.#codes.finish() };
  }

  /** Harmless after {@link finish}. */
  close(): void {
    this.#index.close();
    this.#codes.close();
  }
}

/** Writes the index of an example file. */
export class RecordWriter {
  readonly #blocks: BlockWriter;
  readonly #record = new DataView(new ArrayBuffer(RECORD_BYTES));
  readonly #bytes = new Uint8Array(this.#record.buffer);
  #count = 0;

  /** @throws ProductError `storage_full`, as the other calls do */
  constructor(path: string) {
    this.#blocks = new BlockWriter(path);
  }

  get count(): number {
    return this.#count;
  }

  add(record: ExampleRecord): void {
    writeRecord(this.#record, 0, record);
    this.#blocks.write(this.#bytes);
    this.#count++;
  }

  finish(): Digest {
    return this.#blocks.finish();
  }

  /** Harmless after {@link finish}. */
  close(): void {
    this.#blocks.close();
  }
}

const BLOCK_BYTES = 2 ** 20;

/** Writes a new file block by block and computes its digest. Each block takes about a millisecond and is written synchronously. */
class BlockWriter {
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
