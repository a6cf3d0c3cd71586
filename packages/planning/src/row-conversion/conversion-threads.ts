import { Worker } from 'node:worker_threads';
import { ProductError } from '@lorasmith/contracts';
import type { Line } from '../json-lines.js';
import type { BatchConverter, ConvertedBatch } from './batch-converter.js';
import type { ThreadData, ThreadMessage, ThreadTask } from './conversion-thread.js';

export interface ConversionThreadsOptions extends ThreadData {
  /** Converts in this thread. */
  converter: BatchConverter;
  /** Called before each row that this thread converts. */
  beforeRow: () => Promise<void> | null;
  /** This thread included. */
  threads: number;
}

/** The compiled one, also where this file runs from its source. */
const THREAD_FILE = new URL('../../dist/row-conversion/conversion-thread.js', import.meta.url);
/** A tokenizer takes some 60 MB, and a chat template at most a few hundred. */
const MAX_THREAD_HEAP_MB = 2_048;
/** Heap for values that live for a row. */
const YOUNG_HEAP_MB = 12;
/** One that is converted, and one that waits in the thread, so that it need not wait for this one. */
const TASKS_PER_THREAD = 2;

interface Task {
  lines: readonly Line[];
  resolve(batch: ConvertedBatch): void;
  reject(error: unknown): void;
}

/** Converts batches of rows in this thread and in others. Which thread converts a batch makes no difference to its result. */
export class ConversionThreads {
  readonly #options: ConversionThreadsOptions;
  readonly #waiting: Task[] = [];
  readonly #threads: Thread[] = [];
  #isConverting = false;
  #stopped: { reason: unknown } | null = null;

  constructor(options: ConversionThreadsOptions) {
    this.#options = options;
    const { kind, rows } = options;
    const dispatch = () => this.#dispatch();
    const stop = (error: unknown) => void this.stop(error);
    for (let number = 1; number < options.threads; number++) {
      this.#threads.push(new Thread({ kind, rows }, { dispatch, stop }));
    }
  }

  /** @throws what a thread fails with; the reason of {@link stop} */
  convert(lines: readonly Line[]): Promise<ConvertedBatch> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ lines, resolve, reject });
      this.#dispatch();
    });
  }

  /** Ends the threads. What is not converted fails with the reason. */
  async stop(reason: unknown): Promise<void> {
    this.#stopped ??= { reason };
    for (const task of this.#waiting.splice(0)) task.reject(this.#stopped.reason);
    await Promise.all(this.#threads.map((thread) => thread.end(this.#stopped!.reason)));
  }

  #dispatch(): void {
    if (this.#stopped !== null) {
      for (const task of this.#waiting.splice(0)) task.reject(this.#stopped.reason);
      return;
    }
    for (const thread of this.#threads) {
      while (thread.isFree && this.#waiting.length > 0) thread.start(this.#waiting.shift()!);
    }
    if (!this.#isConverting) void this.#convertHere();
  }

  async #convertHere(): Promise<void> {
    this.#isConverting = true;
    const { converter, beforeRow } = this.#options;
    for (let task = this.#waiting.shift(); task !== undefined; task = this.#waiting.shift()) {
      try {
        task.resolve(await converter.convert(task.lines, beforeRow));
      } catch (error) {
        task.reject(error);
      }
    }
    this.#isConverting = false;
  }
}

class Thread {
  readonly #worker: Worker;
  readonly #running = new Map<number, Task>();
  #isReady = false;
  #tasks = 0;

  constructor(data: ThreadData, { dispatch, stop }: { dispatch(): void; stop(error: unknown): void }) {
    this.#worker = new Worker(THREAD_FILE, {
      workerData: data,
      // Without the flags of this process, such as the port of a debugger.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: MAX_THREAD_HEAP_MB, maxYoungGenerationSizeMb: YOUNG_HEAP_MB },
    });
    this.#worker.on('message', (message: ThreadMessage) => {
      this.#isReady = true;
      if (message.id !== null) {
        this.#running.get(message.id)?.resolve(message.batch);
        this.#running.delete(message.id);
      }
      dispatch();
    });
    this.#worker.on('error', (error) => stop(threadError(error)));
    this.#worker.on('exit', (code) => stop(new Error(`A thread that converts rows ended with code ${code}.`)));
  }

  get isFree(): boolean {
    return this.#isReady && this.#running.size < TASKS_PER_THREAD;
  }

  start(task: Task): void {
    const id = this.#tasks++;
    this.#running.set(id, task);
    this.#worker.postMessage({ id, lines: task.lines } satisfies ThreadTask);
  }

  async end(reason: unknown): Promise<void> {
    for (const task of this.#running.values()) task.reject(reason);
    this.#running.clear();
    await this.#worker.terminate();
  }
}

function threadError(cause: Error & { code?: string }): Error {
  if (cause.code !== 'ERR_WORKER_OUT_OF_MEMORY') return new Error('A thread that converts rows failed.', { cause });
  const message = `Converting the rows needed more than ${MAX_THREAD_HEAP_MB} MB of memory in a thread. Use shorter rows.`;
  return new ProductError('does_not_fit', message, { cause });
}
