import path from 'node:path';
import { type ChildProgram, explainExit, readChild } from '@lorasmith/child-processes';
import { type KeyId, ProductError } from '@lorasmith/contracts';
import type { ColumnChoice } from '@lorasmith/row-files';
import type { BundleStore } from '@lorasmith/storage';
import { ConcurrencyQueue } from '../access/concurrency-limit.js';

/** The heap of a process that reads a file. */
const HEAP_MB = 1_024;
const TIMEOUT_MS = 300_000;
const MAX_AT_ONCE = 2;
const MAX_AT_ONCE_OF_KEY = 1;
const MAX_WAIT_MS = 600_000;
/** Limits, for docs/limits.md. */
export const fileReadingLimits = {
  time: { value: TIMEOUT_MS, unit: 'ms', beyond: '504 `timeout`' },
  heap: { value: HEAP_MB * 2 ** 20, unit: 'bytes', beyond: '422 `invalid_dataset`' },
  ofKey: { value: MAX_AT_ONCE_OF_KEY, unit: 'file', beyond: 'further ones wait' },
  inAll: { value: MAX_AT_ONCE, unit: 'files', beyond: 'further ones wait' },
  wait: { value: MAX_WAIT_MS, unit: 'ms', beyond: '429 `quota_exceeded`, or 503' },
};

/** The only request to a process that reads a file: it sends the rows of a Parquet file as JSONL, and the content of a zstd file. */
export interface FileReading {
  form: 'parquet' | 'zstd';
  /** An absolute path. */
  file: string;
  columns: ColumnChoice;
  maxRows: number;
  /** The most bytes that it sends. */
  maxBytes: number;
}

export interface BoundedReading extends Omit<FileReading, 'file'> {
  /** The API key of the upload; keys alternate. */
  key: KeyId | null;
  /** Ends the wait and the reading. */
  signal: AbortSignal;
}

/**
 * Reads Parquet and zstd files in processes of their own. Their readers take as much time and memory as a file is made to need, and block.
 */
export class BoundedReader {
  readonly #program: ChildProgram;
  readonly #running = new ConcurrencyQueue({ what: 'Parquet or zstd files that are read', waitMs: MAX_WAIT_MS });

  /** @param program - `read-file-main.js` */
  constructor(program: ChildProgram) {
    const { NODE_OPTIONS: options = '' } = program.environment;
    const NODE_OPTIONS = `${options} --max-old-space-size=${HEAP_MB}`;
    this.#program = { ...program, environment: { ...program.environment, NODE_OPTIONS } };
  }

  /**
   * The content of an uploaded file, which is staged meanwhile. Its process waits while the content is not taken.
   *
   * The chunks throw ProductError `invalid_dataset` for a damaged file and for one that needs too much memory, `body_too_large`, `timeout`,
   * `quota_exceeded` and `service_unavailable` after a long wait for other files; the reason of `signal`; errors of `chunks`.
   */
  read(
    chunks: AsyncIterable<Buffer>,
    store: Pick<BundleStore, 'stage'>,
    { key, signal, ...options }: BoundedReading,
  ): AsyncGenerator<Buffer> {
    const [program, running] = [this.#program, this.#running];
    return fromStagedFile(chunks, store, async function* (file) {
      const reading: FileReading = { ...options, file };
      const limits = { own: key === null ? MAX_AT_ONCE : MAX_AT_ONCE_OF_KEY, total: MAX_AT_ONCE };
      const release = await running.enter(key, limits, signal);
      try {
        yield* readChild(program, reading, { signal, timeoutMs: TIMEOUT_MS, work: 'Reading the file', crashed });
      } finally {
        release();
      }
    });
  }
}

function crashed(...[how, exit]: Parameters<Parameters<typeof readChild>[2]['crashed']>): ProductError {
  const cause = new Error(exit.lines.join('\n'));
  if (explainExit(exit).cause === 'not-started') {
    return new ProductError('internal_error', `Reading the file failed: its process ${how}.`, { cause });
  }
  // The engine of JavaScript ends in several ways when memory runs out.
  const message = `The file is damaged, or takes more than ${HEAP_MB} MiB of memory to read. Send its rows as JSONL.`;
  return new ProductError('invalid_dataset', message, { cause });
}

const UPLOADED = 'uploaded';

/**
 * The content of an uploaded file, which is staged meanwhile: its sender need not wait for the reading, and is noticed when it leaves. Errors of
 * `chunks` and of `read`.
 */
export async function* fromStagedFile(
  chunks: AsyncIterable<Buffer>,
  store: Pick<BundleStore, 'stage'>,
  read: (file: string) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const staging = await store.stage();
  try {
    await staging.write(UPLOADED, chunks);
    yield* read(path.join(staging.path, UPLOADED));
  } finally {
    await staging.discard();
  }
}
