import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { closed, Fault, ProductError, RenderedRow } from '@lorasmith/contracts';
import { asStorageError, type Digest, systemErrorCode } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { throwIfPlanningStopped } from '../fault-list.js';

/**
 * The files in a folder of examples: an index of records of one size, the codes of all examples (`words.bin`), and a summary. What
 * the codes of an example mean, its objective says.
 */
export const EXAMPLE_FILES = { index: 'index.bin', words: 'words.bin', summary: 'summary.json' } as const;

/** The location of an example's codes, and its numbers that batches and estimates read. */
export interface ExampleRecord {
  /** First of its codes, counted from 0. */
  start: number;
  /** Codes of 4 bytes. */
  codes: number;
  /** Targets of the loss. */
  trained: number;
  /** Index of its row among the rows of the dataset, from 0. */
  row: number;
  /** Line of the dataset it comes from, from 1. */
  line: number;
}

/** Records are of one size, so the n-th is found without reading those before it. */
const RECORD_BYTES = 24;

/** Little-endian: `start` as float64, then four uint32. */
function writeRecord(into: DataView, offset: number, record: ExampleRecord): void {
  into.setFloat64(offset, record.start, true);
  into.setUint32(offset + 8, record.codes, true);
  into.setUint32(offset + 12, record.trained, true);
  into.setUint32(offset + 16, record.row, true);
  into.setUint32(offset + 20, record.line, true);
}

function readRecord(from: DataView, offset: number): ExampleRecord {
  return {
    start: from.getFloat64(offset, true),
    codes: from.getUint32(offset + 8, true),
    trained: from.getUint32(offset + 12, true),
    row: from.getUint32(offset + 16, true),
    line: from.getUint32(offset + 20, true),
  };
}

const count = Type.Integer({ minimum: 0 });

const FileDigest = Type.Object({ bytes: count, sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }) }, closed);

/** The outcomes of the rows, as the report counts them. */
export const RowCounts = Type.Object(
  { overflowed: count, dropped: count, truncated: count, split: count, longest: count },
  closed,
);
export type RowCounts = Static<typeof RowCounts>;

/** The part of a job's report about the rows, besides their split. */
export const ExampleNotes = Type.Object(
  { counts: RowCounts, warnings: Type.Array(Fault), rendered: Type.Union([RenderedRow, Type.Null()]) },
  closed,
);
export type ExampleNotes = Static<typeof ExampleNotes>;

/** Written last, next to the files that it describes. */
export const ExampleSummary = Type.Object(
  {
    /** Examples in the file. */
    count,
    notes: ExampleNotes,
    files: Type.Object({ index: FileDigest, words: FileDigest }, closed),
  },
  closed,
);
export type ExampleSummary = Static<typeof ExampleSummary>;

const schema = Compile(ExampleSummary);

function isExampleSummary(value: unknown): value is ExampleSummary {
  return schema.Check(value);
}

/** The parts, one after the other, in memory of their own. */
export function concatenate(parts: readonly Int32Array[]): Int32Array<ArrayBuffer> {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let position = 0;
  for (const part of parts) {
    all.set(part, position);
    position += part.length;
  }
  return all;
}

/** Records read at once: a page of memory. */
const BLOCK_RECORDS = 170;
/** Cached blocks: 8 MB, the records of 350,000 examples. */
const MAX_BLOCKS = 2048;
const VERIFY_BYTES = 2 ** 20;

/**
 * The examples of a dataset on disk, read by their index. The files stay open, so they can be read even if they are removed
 * meanwhile. Reads are synchronous: they are small, of a file just written or read, and precede an engine call.
 */
export class ExampleFile {
  readonly summary: ExampleSummary;
  readonly #index: FileHandle;
  readonly #codes: FileHandle;
  readonly #blocks = new Map<number, DataView>();

  constructor({ summary, index, codes }: { summary: ExampleSummary; index: FileHandle; codes: FileHandle }) {
    this.summary = summary;
    this.#index = index;
    this.#codes = codes;
  }

  get count(): number {
    return this.summary.count;
  }

  record(number: number): ExampleRecord {
    const block = Math.floor(number / BLOCK_RECORDS);
    return readRecord(this.#block(block), (number - block * BLOCK_RECORDS) * RECORD_BYTES);
  }

  /** Consecutive records, read at once. */
  *records(first: number, length: number): Generator<ExampleRecord> {
    const records = this.#recordsFrom(first, length);
    for (let number = 0; number < length; number++) yield readRecord(records, number * RECORD_BYTES);
  }

  /** `[codes]` of an example, in memory of their own. */
  codes({ start, codes }: ExampleRecord): Int32Array {
    const content = new Int32Array(codes);
    readFully(this.#codes, new Uint8Array(content.buffer), start * 4);
    return content;
  }

  /** Other examples in the same codes. It is read from the same open file. */
  withIndex(index: FileHandle, summary: ExampleSummary): ExampleFile {
    return new ExampleFile({ summary, index, codes: this.#codes });
  }

  async close(): Promise<void> {
    await Promise.all([this.#index.close(), this.#codes.close()]);
  }

  #block(block: number): DataView {
    const known = this.#blocks.get(block);
    if (known !== undefined) return known;
    const first = block * BLOCK_RECORDS;
    const records = this.#recordsFrom(first, Math.min(BLOCK_RECORDS, this.count - first));
    // The oldest block is dropped: access is random, so another rule would gain little.
    if (this.#blocks.size === MAX_BLOCKS) this.#blocks.delete(this.#blocks.keys().next().value!);
    this.#blocks.set(block, records);
    return records;
  }

  #recordsFrom(first: number, count: number): DataView {
    const bytes = new Uint8Array(count * RECORD_BYTES);
    readFully(this.#index, bytes, first * RECORD_BYTES);
    return new DataView(bytes.buffer);
  }
}

/**
 * Opens the examples in a folder after checking their sha256.
 *
 * @returns null when something is missing or damaged
 * @throws ProductError `cancelled` when the signal is aborted
 */
export async function openExampleFile(folder: string, signal?: AbortSignal): Promise<ExampleFile | null> {
  const handles: FileHandle[] = [];
  let file: ExampleFile | null = null;
  try {
    const summary: unknown = JSON.parse(await readFile(join(folder, EXAMPLE_FILES.summary), 'utf8'));
    if (!isExampleSummary(summary)) return null;
    const names = ['index', 'words'] as const;
    for (const name of names) handles.push(await open(join(folder, EXAMPLE_FILES[name]), 'r'));
    const [index, codes] = handles;
    const digests = names.map((name) => summary.files[name]);
    const checks = await Promise.all(handles.map((handle, at) => isWhole(handle, digests[at]!, signal)));
    if (checks.includes(false)) return null;
    file = new ExampleFile({ summary, index: index!, codes: codes! });
    return file;
  } catch (error) {
    if (error instanceof SyntaxError || systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  } finally {
    if (file === null) await Promise.all(handles.map((handle) => handle.close()));
  }
}

async function isWhole(handle: FileHandle, { bytes, sha256 }: Digest, signal?: AbortSignal): Promise<boolean> {
  if ((await handle.stat()).size !== bytes) return false;
  const hash = createHash('sha256');
  const block = Buffer.allocUnsafe(VERIFY_BYTES);
  for (let position = 0; position < bytes; ) {
    throwIfPlanningStopped(signal);
    const { bytesRead } = await handle.read(block, 0, block.length, position);
    if (bytesRead === 0) return false;
    hash.update(block.subarray(0, bytesRead));
    position += bytesRead;
  }
  return hash.digest('hex') === sha256;
}

function readFully({ fd }: FileHandle, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length; ) {
    const read = readSync(fd, into, done, into.length - done, position + done);
    if (read === 0) throw new ProductError('internal_error', 'A file of tokens was truncated while it was read.');
    done += read;
  }
}

/** An example as it is written. */
interface NewExample extends Omit<ExampleRecord, 'start' | 'codes'> {
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
