import { availableParallelism } from 'node:os';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { type KeyId, ProductError } from '@lorasmith/contracts';
import type { ColumnMapping } from '@lorasmith/row-files';
import { Piscina } from 'piscina';
import { ConcurrencyLimit, ConcurrencyQueue, slotsOf } from '../access/concurrency-limit.js';
import { resultOf, THREAD_ARGUMENTS, type ThreadAnswer, triedOf } from '../threads.js';
import { type Checked, type CheckTask, LONG_RECORD } from './check-thread.js';
import type { DatasetLimits, DatasetSummary } from './dataset-checker.js';

/** An upload whose rows are checked. */
export interface CheckOptions {
  limits: DatasetLimits;
  columns: ColumnMapping | undefined;
  /** The API key of the upload; keys alternate. */
  key: KeyId | null;
  /** Ends the check. */
  signal: AbortSignal;
}

/** Bytes that are checked at once: some 40 ms for the shortest rows. */
const BLOCK_BYTES = 2 ** 16;
const MAX_THREADS = 4;
/** A check gives way to the event loop of the api, and to a training on this machine, but not for long. */
const NICE = 5;
const HEAP_MB = 1_024;
/** Work on one upload, without the time that it waits. */
const MAX_WORK_MS = 900_000;
/** Limits, for docs/limits.md. */
export const rowCheckLimits = {
  work: { value: MAX_WORK_MS, unit: 'ms', beyond: '504 `timeout`' },
  heap: { value: HEAP_MB * 2 ** 20, unit: 'bytes', beyond: '503 `service_unavailable`' },
};
/** Uploads of CSV with long rows, at once. */
const LONG_RECORDS = { own: 4, total: 8 };
/** Limits, for docs/limits.md. */
export const longRecordLimits = {
  ofKey: { value: LONG_RECORDS.own, unit: 'uploads', beyond: '429 `quota_exceeded`' },
  inAll: { value: LONG_RECORDS.total, unit: 'uploads', beyond: '503 `service_unavailable`' },
};
/** The number of uploads is limited elsewhere. */
const ANY = Number.MAX_SAFE_INTEGER;

/**
 * Checks the rows of uploads outside the event loop. Keys alternate, block by block: an upload that takes minutes keeps none of another key
 * waiting for longer than a block.
 */
export class RowChecks {
  readonly #threadFile: string;
  #threads: Piscina | null = null;
  /** One core stays for the api. */
  readonly #count = Math.min(MAX_THREADS, Math.max(1, availableParallelism() - 1));
  readonly #queue = new ConcurrencyQueue({
    what: 'checks of rows',
    waitMs: null,
    waiting: { own: ANY, total: ANY },
  });
  readonly #longRecords = new ConcurrencyLimit('uploads of CSV with long rows');

  /** @param threadFile - Path of the compiled `check-thread.js` */
  constructor(threadFile: string) {
    this.#threadFile = threadFile;
  }

  /** Starts the threads before the first upload comes. */
  start(): void {
    this.#pool.run(null, { name: 'ready' }).catch(() => {});
  }

  async close(): Promise<void> {
    await this.#threads?.destroy();
  }

  get #pool(): Piscina {
    this.#threads ??= new Piscina({
      filename: this.#threadFile,
      minThreads: this.#count,
      maxThreads: this.#count,
      concurrentTasksPerWorker: ANY,
      // Otherwise a thread sleeps until the next task, while those that it has wait for their messages.
      atomics: 'disabled',
      niceIncrement: NICE,
      execArgv: THREAD_ARGUMENTS,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    });
    return this.#threads;
  }

  /**
   * The rows to store of an uploaded text. After the first faults it reads no further.
   *
   * The chunks throw ProductError `invalid_dataset` with up to 100 faults in `details`, `dataset_empty`, `quota_exceeded`, `timeout`,
   * `service_unavailable`; the reason of `signal`; errors of `content`.
   *
   * @returns what they are, after the last of them
   */
  async *check(
    content: AsyncIterable<Buffer>,
    { limits, columns, key, signal }: CheckOptions,
  ): AsyncGenerator<Buffer, DatasetSummary> {
    signal.throwIfAborted();
    const { port1: port, port2 } = new MessageChannel();
    const task: CheckTask = { port: port2, limits, columns };
    // Without a signal: a task that has one gets a thread of its own.
    const running: Promise<ThreadAnswer<Checked>> = this.#pool.run(task, { name: 'check', transferList: [port2] });
    const leave = () => port.close();
    signal.addEventListener('abort', leave, { once: true });
    const longRecords = { release: () => {} };
    const replies = new Replies(port, signal, () => {
      longRecords.release = this.#longRecords.acquire(key, LONG_RECORDS);
    });
    running.then(
      (answer) => replies.end(() => resultOf(triedOf(answer))),
      (error: unknown) =>
        replies.end(() => {
          throw threadError(error);
        }),
    );
    let workedMs = 0;
    /** Has a block checked; null: there is none after those before. @returns the rows to store, or how the check ended */
    const checkBlock = async (block: Uint8Array<ArrayBuffer> | null): Promise<Uint8Array | Checked> => {
      const release = await this.#queue.enter(key, slotsOf(key, this.#count), signal);
      const begin = performance.now();
      try {
        const reply = replies.next();
        port.postMessage(block, block === null ? [] : [block.buffer]);
        return await reply;
      } finally {
        workedMs += performance.now() - begin;
        release();
      }
    };
    try {
      for await (const block of inBlocks(content)) {
        const checked = await checkBlock(block);
        if ('summary' in checked) return yield* rest(checked);
        if (checked.length > 0) yield bufferOf(checked);
        if (workedMs > MAX_WORK_MS) throw tookTooLong();
      }
      return yield* rest((await checkBlock(null)) as Checked);
    } finally {
      signal.removeEventListener('abort', leave);
      longRecords.release();
      port.close();
    }
  }
}

async function* rest({ summary, rows }: Checked): AsyncGenerator<Buffer, DatasetSummary> {
  if (rows.length > 0) yield bufferOf(rows);
  return summary;
}

function bufferOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}

/** Copies of the chunks in memory of their own, which can go to another thread, none larger than a block. */
async function* inBlocks(chunks: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += BLOCK_BYTES) {
      yield new Uint8Array(chunk.subarray(at, at + BLOCK_BYTES));
    }
  }
}

/**
 * The replies of a thread to the blocks of a check. Nothing of one stays once it is taken: a race with the end of the check would keep the rows of
 * every block until then.
 */
class Replies {
  readonly #signal: AbortSignal;
  #resolve: (reply: Uint8Array | Checked) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #result: (() => Checked) | null = null;

  constructor(port: MessagePort, signal: AbortSignal, onLongRecord: () => void) {
    this.#signal = signal;
    port.on('message', (message: Uint8Array | typeof LONG_RECORD) => {
      if (message !== LONG_RECORD) {
        this.#resolve(message);
        return;
      }
      try {
        onLongRecord();
      } catch (error) {
        this.#reject(error);
      }
    });
    const onAbort = () => this.#reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    port.once('close', () => signal.removeEventListener('abort', onAbort));
  }

  /** Ends the check: its result, or what that throws, is the reply to this block and to every later one. */
  end(result: () => Checked): void {
    this.#result = result;
    this.#settle(result);
  }

  /** The next reply. @throws ProductError that of a long record, or of the check; the reason of the signal */
  async next(): Promise<Uint8Array | Checked> {
    return await new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      if (this.#signal.aborted) reject(this.#signal.reason);
      else if (this.#result !== null) this.#settle(this.#result);
    });
  }

  #settle(result: () => Checked): void {
    try {
      this.#resolve(result());
    } catch (error) {
      this.#reject(error);
    }
  }
}

function tookTooLong(): ProductError {
  const message = `Checking the rows took more than ${MAX_WORK_MS / 60_000} minutes. Send them in several files.`;
  return new ProductError('timeout', message);
}

function threadError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if ('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    const message =
      'Checking the rows of the uploads in progress took more memory than it may. Try again; if it happens again, send shorter rows.';
    return new ProductError('service_unavailable', message, { cause: error });
  }
  return error;
}
