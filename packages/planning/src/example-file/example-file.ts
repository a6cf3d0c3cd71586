import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { type Digest, systemErrorCode } from '@lorasmith/storage';
import { throwIfPlanningStopped } from '../fault-list.js';
import {
  EXAMPLE_FILES,
  type ExampleRecord,
  type ExampleSummary,
  isExampleSummary,
  RECORD_BYTES,
  readRecord,
} from './example-format.js';

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
