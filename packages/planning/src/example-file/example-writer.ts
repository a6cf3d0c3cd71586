import { join } from 'node:path';
import type { Digest } from '@lorasmith/storage';
import { BlockWriter } from './block-writer.js';
import type { ExampleRecord } from './example-record.js';
import { EXAMPLE_FILES } from './example-summary.js';
import { RecordWriter } from './record-writer.js';

/** An example as it is written. */
export interface NewExample extends Omit<ExampleRecord, 'start' | 'words'> {
  words: Int32Array;
}

/** Writes examples one after the other, with at most one block of them in memory. */
export class ExampleWriter {
  readonly #index: RecordWriter;
  readonly #words: BlockWriter;
  #start = 0;

  /**
   * @param folder an empty one
   * @throws ProductError `storage_full`, as the other calls do
   */
  constructor(folder: string) {
    this.#index = new RecordWriter(join(folder, EXAMPLE_FILES.index));
    this.#words = new BlockWriter(join(folder, EXAMPLE_FILES.words));
  }

  get count(): number {
    return this.#index.count;
  }

  add({ words, ...record }: NewExample): void {
    this.addRecord({ words: words.length, ...record });
    this.addWords(words);
  }

  /** Adds the record of the next example; its words are added apart, in the same order. */
  addRecord(record: Omit<ExampleRecord, 'start'>): void {
    this.#index.add({ start: this.#start, ...record });
    this.#start += record.words;
  }

  /** Adds the words of one example or several. */
  addWords({ buffer, byteOffset, byteLength }: Int32Array): void {
    this.#words.write(new Uint8Array(buffer, byteOffset, byteLength));
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
