import type { Digest } from '@lorasmith/storage';
import { BlockWriter } from './block-writer.js';
import { type ExampleRecord, RECORD_BYTES, writeRecord } from './example-record.js';

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
