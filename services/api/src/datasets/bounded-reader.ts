import { createReadStream } from 'node:fs';
import path from 'node:path';
import { askChild, type ChildProgram, explainExit } from '@lorasmith/child-processes';
import { Semaphore } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import type { BundleStore } from '@lorasmith/storage';
import type { FileReading } from './file-reading.js';

/** The heap of a process that reads a file. */
const HEAP_MB = 1_024;
const TIMEOUT_MS = 300_000;
const MAX_AT_ONCE = 2;
/** Limits, for docs/limits.md. */
export const fileReadingLimits = {
  time: { value: TIMEOUT_MS, unit: 'ms', beyond: '504 `timeout`' },
  heap: { value: HEAP_MB * 2 ** 20, unit: 'bytes', beyond: '422 `invalid_dataset`' },
};

const UPLOADED = 'uploaded';
const OUTPUT = 'output';

/**
 * Reads Parquet and zstd files in processes of their own. Their readers take as much time and memory as a file is made to need, and block.
 */
export class BoundedReader {
  readonly #program: ChildProgram;
  readonly #running = new Semaphore(MAX_AT_ONCE);

  /** @param program - `read-file-main.js` */
  constructor(program: ChildProgram) {
    const { NODE_OPTIONS: options = '' } = program.environment;
    const NODE_OPTIONS = `${options} --max-old-space-size=${HEAP_MB}`;
    this.#program = { ...program, environment: { ...program.environment, NODE_OPTIONS } };
  }

  /**
   * The content of an uploaded file, which is staged meanwhile.
   *
   * The chunks throw ProductError `invalid_dataset` for a damaged file and for one that needs too much memory, `body_too_large`, `timeout`;
   * errors of `chunks`.
   */
  async *read(
    chunks: AsyncIterable<Buffer>,
    store: Pick<BundleStore, 'stage'>,
    options: Omit<FileReading, 'file' | 'output'>,
  ): AsyncGenerator<Buffer> {
    const staging = await store.stage();
    try {
      await staging.write(UPLOADED, chunks);
      const file = path.join(staging.path, UPLOADED);
      const output = path.join(staging.path, OUTPUT);
      const reading: FileReading = { ...options, file, output };
      await this.#running.run(() =>
        askChild<null>(this.#program, reading, { timeoutMs: TIMEOUT_MS, work: 'Reading the file', crashed }),
      );
      yield* createReadStream(output);
    } finally {
      await staging.discard();
    }
  }
}

function crashed(...[how, exit]: Parameters<Parameters<typeof askChild>[2]['crashed']>): ProductError {
  const cause = new Error(exit.lines.join('\n'));
  if (explainExit(exit).cause === 'not-started') {
    return new ProductError('internal_error', `Reading the file failed: its process ${how}.`, { cause });
  }
  // The engine of JavaScript ends in several ways when memory runs out.
  const message = `The file is damaged, or takes more than ${HEAP_MB} MiB of memory to read. Send its rows as JSONL.`;
  return new ProductError('invalid_dataset', message, { cause });
}
