import type { MessagePort } from 'node:worker_threads';
import { type Owner, ProductError } from '@lorasmith/contracts';
import { Piscina } from 'piscina';
import { ConcurrencyQueue, slotsOf } from '../access/concurrency-limit.js';
import { resultOf, THREAD_ARGUMENTS, type ThreadAnswer, triedOf } from '../threads.js';

/** Limit for JavaScript objects of a thread that plans. The tokens do not count. */
export const MAX_HEAP_MB = 2_048;
/** The same of a thread that plans jobs without their rows or prepares tokens. */
const OTHER_HEAP_MB = 1_024;
/** Tokens are prepared with what others leave of the processor. */
const PREPARING_NICE = 10;
/** Threads for what takes a short time. */
const QUICK_THREADS = 2;
const IDLE_MS = 60_000;
/** The longest wait for a thread. */
export const MAX_WAIT_MS = 600_000;

/**
 * The threads in which jobs are planned, of each kind of task its own. One starts with its first task, and ends when it has had none for a
 * while.
 */
export class PreflightThreads {
  readonly large: TaskThreads;
  readonly quick: TaskThreads;
  readonly withoutRows: TaskThreads;
  readonly viewing: TaskThreads;
  readonly preparing: TaskThreads;

  /**
   * @param file - Path of the compiled `preflight-thread.js`
   * @param large - Large dry runs that are planned at once
   */
  constructor(file: string, large: number) {
    this.large = new TaskThreads(file, MAX_HEAP_MB, { maxThreads: large });
    this.quick = new TaskThreads(file, MAX_HEAP_MB, { minThreads: 1, maxThreads: QUICK_THREADS });
    // No task of it reads a dataset.
    this.withoutRows = new TaskThreads(file, OTHER_HEAP_MB, { minThreads: 1, maxThreads: 1 });
    // A slow chat template keeps nobody waiting but those who look at rows.
    this.viewing = new TaskThreads(file, OTHER_HEAP_MB, { maxThreads: 1 });
    this.preparing = new TaskThreads(file, OTHER_HEAP_MB, { maxThreads: 1, niceIncrement: PREPARING_NICE });
  }

  /** Starts the threads that answers wait for, before the first request comes: one takes longer to start than an answer may take. */
  start(): void {
    this.quick.start();
    this.withoutRows.start();
  }

  async close(): Promise<void> {
    const all = [this.large, this.quick, this.withoutRows, this.viewing, this.preparing];
    await Promise.all(all.map((threads) => threads.close()));
  }
}

interface PoolSize {
  minThreads?: number;
  maxThreads: number;
  niceIncrement?: number;
}

interface TaskOptions {
  /** The name of its function in the thread. */
  name: string;
  /** Limit for the work. */
  limitMs: number;
  transferList?: MessagePort[];
}

/** The threads for a kind of task. */
class TaskThreads {
  /** The number of tasks that run at once. */
  readonly count: number;
  readonly #make: () => Piscina;
  #pool: Piscina | undefined;

  constructor(filename: string, heapMb: number, size: PoolSize) {
    this.count = size.maxThreads;
    this.#make = () =>
      new Piscina({
        filename,
        minThreads: 0,
        ...size,
        idleTimeout: IDLE_MS,
        execArgv: THREAD_ARGUMENTS,
        resourceLimits: { maxOldGenerationSizeMb: heapMb },
      });
  }

  start(): void {
    this.#started()
      .run(null, { name: 'ready' })
      .catch(() => {});
  }

  /** Runs a task. @throws ProductError `timeout`, `does_not_fit` */
  async run<Answer>(task: object, { name, limitMs, transferList = [] }: TaskOptions): Promise<Answer> {
    const signal = AbortSignal.timeout(limitMs);
    try {
      return await this.#started().run(task, { name, signal, transferList });
    } catch (error) {
      throw threadError(error as Error, limitMs);
    }
  }

  async close(): Promise<void> {
    await this.#pool?.destroy();
  }

  #started(): Piscina {
    this.#pool ??= this.#make();
    return this.#pool;
  }
}

export interface QueuedTaskOptions extends TaskOptions {
  /** The key of the task; keys alternate. @defaultValue none: in the order in which the tasks came */
  owner?: Owner;
  /** Ends the waiting. @defaultValue after ten minutes */
  waiting?: AbortSignal;
}

/** Threads, and the queue of the tasks that wait for them. */
export class TaskQueue {
  readonly #threads: TaskThreads;
  readonly #queue: ConcurrencyQueue;

  /** @param maxWaiting - The most tasks that wait; of one key half as many */
  constructor(threads: TaskThreads, maxWaiting: number) {
    this.#threads = threads;
    this.#queue = new ConcurrencyQueue({
      what: 'jobs that are planned',
      waitMs: null,
      waiting: { own: Math.ceil(maxWaiting / 2), total: maxWaiting },
    });
  }

  /** Runs a task once there is a thread. @throws ProductError of the task; `timeout`, `quota_exceeded`, `service_unavailable`, `does_not_fit` */
  async run<Result>(task: object, { owner = null, waiting, ...options }: QueuedTaskOptions): Promise<Result> {
    const slots = slotsOf(owner, this.#threads.count);
    const release = await this.#queue
      .enter(owner, slots, waiting ?? AbortSignal.timeout(MAX_WAIT_MS))
      .catch((error: unknown) => {
        throw (error as Error).name === 'TimeoutError' ? othersArePlanned(error) : error;
      });
    try {
      return resultOf(triedOf(await this.#threads.run<ThreadAnswer<Result>>(task, options)));
    } finally {
      release();
    }
  }
}

function othersArePlanned(cause: unknown): ProductError {
  const message = 'Other jobs are being planned, and take long. Try again later.';
  return new ProductError('service_unavailable', message, { cause });
}

function threadError(error: Error & { code?: string }, limitMs: number): unknown {
  if (error.name === 'AbortError') {
    const message = `Planning the job took longer than ${limitMs / 1000} s and was stopped. Check the chat template of the base model, or raise PREFLIGHT_TIMEOUT_MS.`;
    return new ProductError('timeout', message, { cause: error });
  }
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    const message = `Planning the job needed more than ${MAX_HEAP_MB} MB of memory. Use a smaller dataset or shorter rows.`;
    return new ProductError('does_not_fit', message, { cause: error });
  }
  return error;
}
