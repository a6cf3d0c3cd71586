import { join } from 'node:path';
import type { Digest } from '@lorasmith/storage';
import { BlockWriter } from './block-writer.js';
import { type ExampleRecord, RECORD_BYTES, writeRecord } from './example-record.js';
import { EXAMPLE_FILES } from './example-summary.js';

/** An example as it is written. */
export interface NewExample extends Omit<ExampleRecord, 'start' | 'words'> {
  words: Int32Array;
}

/** Writes examples one after the other, with at most one block of them in memory. */
export class ExampleWriter {
  readonly #index: BlockWriter;
  readonly #words: BlockWriter;
  readonly #record = new DataView(new ArrayBuffer(RECORD_BYTES));
  #start = 0;
  #count = 0;

  /**
   * @param folder an empty one
   * @throws ProductError `storage_full`, as the other calls do
   */
  constructor(folder: string) {
    this.#index = new BlockWriter(join(folder, EXAMPLE_FILES.index));
    this.#words = new BlockWriter(join(folder, EXAMPLE_FILES.words));
  }

  get count(): number {
    return this.#count;
  }

  add({ words, trained, row, line }: NewExample): void {
    writeRecord(this.#record, 0, { start: this.#start, words: words.length, trained, row, line });
    this.#index.write(new Uint8Array(this.#record.buffer));
    this.#words.write(new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
    this.#start += words.length;
    this.#count++;
  }

  finish(): { index: Digest; words: Digest } {
    return { index: this.#index.finish(), words: this.#words.finish() };
  }

  /** Harmless after {@link finish}. */
  close(): void {
    this.#index.close();
    this.#words.close();
  }
}
