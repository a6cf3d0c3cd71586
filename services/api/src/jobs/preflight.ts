import { availableParallelism } from 'node:os';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { inTime } from '@lorasmith/concurrency';
import { type ErrorCode, type Owner, ProductError, type Report, type UploadedDataset } from '@lorasmith/contracts';
import type { ExampleStoreOptions, JobOutline, TokenizingProgress, ViewedRows } from '@lorasmith/planning';
import type { PlannedWork } from '@lorasmith/queue';
import { Piscina } from 'piscina';
import { type ConcurrencyQueue, createConcurrencyQueue, placesOf } from '../access/concurrency-queue.js';
import { type ThreadAnswer, triedOf } from '../threads/thread-answer.js';
import { THREAD_ARGUMENTS } from '../threads/thread-arguments.js';
import { datasetsOf } from './job-datasets.js';
import type { PlannedJobs, PreflightRows, RowsToView } from './preflight-tasks.js';
import type {
  Outlines,
  OutlineTask,
  Planned,
  PrepareTask,
  ReportTask,
  TokensTask,
  ViewTask,
} from './preflight-thread.js';
import { resultOf, type Tried } from './tried.js';

export interface PreflightOptions {
  threads: PreflightThreads;
  /** Maximum waiting tasks of a kind; of one key half as many. */
  maxWaiting: number;
  /** Limit for planning, without waiting for a thread, plus a time that depends on the size of the datasets. Then the thread is ended. */
  timeoutMs: number;
  /** How long {@link Preflight.check} may tokenize rows. 0: never. */
  budgetMs: number;
  /** Where datasets are stored as tokens. */
  tokens: ExampleStoreOptions;
}

/** Plans jobs outside the event loop: a chat template is code of a model, and may loop forever. Keys take turns. */
export interface Preflight {
  /**
   * Plans jobs completely. Those that take long keep none waiting that do not.
   * @returns a report of each, or the errors of planning it
   * @throws ProductError faults that all have in common; `timeout`; `quota_exceeded`, `service_unavailable` if too many tasks wait
   */
  report(jobs: PlannedJobs, owner: Owner): Promise<Tried<Report>[]>;
  /**
   * Checks jobs in a short time, whatever the size of their datasets: completely if their rows are few or stored as tokens.
   * Otherwise without the rows, which their trainers check first.
   *
   * @returns for each whether it may be queued; `planned` is known only if it was checked completely
   * @throws ProductError as {@link report}
   */
  check(jobs: PlannedJobs, owner: Owner): Promise<Tried<Checked>[]>;
  /** Whether the rows are stored as tokens. @throws as {@link check} */
  hasTokens(rows: PreflightRows): Promise<boolean>;
  /**
   * Stores the rows as tokens, unless they are stored. One dataset at a time.
   * @throws ProductError the faults of the rows; `timeout`
   */
  prepare(rows: PreflightRows, onProgress: (progress: TokenizingProgress) => void): Promise<void>;
  /** Shows rows, in a thread of its own. @throws the errors of planning that concern no row; `timeout`; `service_unavailable` */
  viewRows(view: RowsToView): Promise<ViewedRows>;
}

/** The facts about a job that may be queued. */
export interface Checked extends JobOutline {
  planned: PlannedWork | undefined;
}

/** Limit for JavaScript objects of a thread that plans. The tokens do not count. */
export const MAX_HEAP_MB = 2_048;
/** The same of a thread that outlines jobs or prepares tokens. */
const OTHER_HEAP_MB = 1_024;
/** Tokens are prepared with what others leave of the processor, and nobody waits for them: they get so many times the limit of a plan. */
const PREPARING_NICE = 10;
const PREPARING_LIMITS = 10;
const IDLE_MS = 60_000;
/** Short rows in a chat template are tokenized at 0.25 MB/s. Below half of that, the thread counts as hanging. */
const MS_PER_MEGABYTE = 10_000;
/** Each further variant of a sweep adds this to the time limit of the first. */
const MS_PER_VARIANT = 1_000;
/** Variants of a sweep are planned before they are queued for up to so many times the budget of a job. */
const MOST_BUDGETS = 5;
/** The longest wait for a thread. */
const MAX_WAIT_MS = 600_000;
/** Limits, for docs/limits.md. */
export const preflightLimits = {
  perMegabyte: { value: MS_PER_MEGABYTE, unit: 'ms', beyond: '504 `timeout`' },
  perVariant: { value: MS_PER_VARIANT, unit: 'ms', beyond: '504 `timeout`' },
  preparing: { value: PREPARING_LIMITS, unit: 'times that', beyond: 'their `error` is `timeout`' },
  heap: { value: MAX_HEAP_MB, unit: 'MB', beyond: '422 `does_not_fit`' },
  wait: { value: MAX_WAIT_MS, unit: 'ms', beyond: '503 `service_unavailable`' },
};
/** Threads for what takes a short time. */
const QUICK_THREADS = 2;
/** The errors of a task that could not begin. */
const BUSY: readonly ErrorCode[] = ['service_unavailable', 'quota_exceeded', 'timeout'];
/** Rows that a core tokenizes in a millisecond, beside loading the tokenizer. */
const ROW_BYTES_PER_MS = 1_000;
/** Stored tokens that are checked and read in a millisecond. */
const TOKEN_BYTES_PER_MS = 200_000;
/** Each thread that tokenizes holds a tokenizer, up to some hundred MB. */
const MAX_TOKENIZING_THREADS = 4;

/**
 * The threads in which jobs are planned, of each kind of task its own. One starts with its first task, and ends when it has had none for a
 * while.
 */
export class PreflightThreads {
  readonly large: TaskThreads;
  readonly quick: TaskThreads;
  readonly outlining: TaskThreads;
  readonly viewing: TaskThreads;
  readonly preparing: TaskThreads;
  readonly #pools: Piscina[] = [];

  /**
   * @param threadFile - Path of the compiled `preflight-thread.js`
   * @param large - Large dry runs that are planned at once
   */
  constructor(threadFile: string, large: number) {
    const threadsOf = (heapMb: number, size: PoolSize): TaskThreads => ({
      count: size.maxThreads,
      pool: lazily(() => {
        const pool = new Piscina({
          filename: threadFile,
          minThreads: 0,
          ...size,
          idleTimeout: IDLE_MS,
          execArgv: THREAD_ARGUMENTS,
          resourceLimits: { maxOldGenerationSizeMb: heapMb },
        });
        this.#pools.push(pool);
        return pool;
      }),
    });
    this.large = threadsOf(MAX_HEAP_MB, { maxThreads: large });
    this.quick = threadsOf(MAX_HEAP_MB, { minThreads: 1, maxThreads: QUICK_THREADS });
    // No task of it reads a dataset.
    this.outlining = threadsOf(OTHER_HEAP_MB, { minThreads: 1, maxThreads: 1 });
    // A slow chat template keeps nobody waiting but those who look at rows.
    this.viewing = threadsOf(OTHER_HEAP_MB, { maxThreads: 1 });
    this.preparing = threadsOf(OTHER_HEAP_MB, { maxThreads: 1, niceIncrement: PREPARING_NICE });
  }

  /** Starts the threads that answers wait for, before the first request comes: one takes longer to start than an answer may take. */
  start(): void {
    for (const { pool } of [this.quick, this.outlining]) {
      pool()
        .run(null, { name: 'ready' })
        .catch(() => {});
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.destroy()));
  }
}

export function createPreflight({ threads, maxWaiting, timeoutMs, budgetMs, tokens }: PreflightOptions): Preflight {
  const lineOf = (of: TaskThreads): Line => ({
    threads: of,
    turns: createConcurrencyQueue({
      what: 'jobs that are planned',
      waitMs: null,
      waiting: { own: Math.ceil(maxWaiting / 2), total: maxWaiting },
    }),
  });
  const large = lineOf(threads.large);
  const quick = lineOf(threads.quick);
  const outlining = lineOf(threads.outlining);
  const viewing = lineOf(threads.viewing);
  const preparing = lineOf(threads.preparing);

  const cores = Math.min(availableParallelism(), MAX_TOKENIZING_THREADS);
  const limitOf = (datasets: readonly UploadedDataset[]) => {
    const bytes = datasets.reduce((sum, dataset) => sum + dataset.bytes, 0);
    return timeoutMs + Math.ceil((bytes / 1e6) * MS_PER_MEGABYTE);
  };
  const limitOfMore = ({ specs }: PlannedJobs) => (specs.length - 1) * MS_PER_VARIANT;

  const sizes = { rowBytes: budgetMs * ROW_BYTES_PER_MS, tokenBytes: budgetMs * TOKEN_BYTES_PER_MS };
  const outlinesOf = (jobs: PlannedJobs, owner: Owner): Promise<Outlines> => {
    const task: OutlineTask = { jobs, tokens, quick: sizes };
    return run(outlining, 'outline', task, { owner, limitMs: timeoutMs + limitOfMore(jobs) });
  };
  type Answers = (ThreadAnswer<Planned> | null)[];
  const report = async (jobs: PlannedJobs, owner: Owner): Promise<Answers> => {
    const { isQuick } = await outlinesOf(jobs, owner);
    const task: ReportTask = { jobs, tokens, deadlineMs: null, threads: isQuick ? 1 : cores };
    const limitMs = limitOf(datasetsOf(jobs)) + limitOfMore(jobs);
    return await run(isQuick ? quick : large, 'report', task, { owner, limitMs });
  };
  /** Null for what takes longer, or could not begin. */
  const reportInBudget = async (jobs: PlannedJobs, owner: Owner): Promise<Answers> => {
    const none = jobs.specs.map(() => null);
    const ms = budgetMs * Math.min(jobs.specs.length, MOST_BUDGETS);
    const task: ReportTask = { jobs, tokens, deadlineMs: Date.now() + ms, threads: 1 };
    const limitMs = limitOf(datasetsOf(jobs)) + limitOfMore(jobs);
    const waiting = AbortSignal.timeout(ms);
    const reporting = run<Answers>(quick, 'report', task, { owner, limitMs, waiting }).catch((error: unknown) => {
      if (error instanceof ProductError && BUSY.includes(error.code)) return none;
      throw error;
    });
    // What it finds later, the trainer finds, too.
    return await inTime(reporting, ms, () => none);
  };

  return {
    report: async (jobs, owner) => (await report(jobs, owner)).map((answer) => reportOf(triedOf(answer!))),
    async check(jobs, owner) {
      const { outlines, isQuick } = await outlinesOf(jobs, owner);
      const reports = isQuick ? await reportInBudget(jobs, owner) : null;
      return outlines.map((outline, index) => checkedOf(triedOf(outline), reports?.[index]));
    },
    hasTokens: (rows) => run(outlining, 'hasTokens', { rows, tokens } satisfies TokensTask, { limitMs: timeoutMs }),
    async prepare(rows, onProgress) {
      const { port1, port2 } = new MessageChannel();
      port1.on('message', onProgress);
      const task: PrepareTask = { rows, tokens, threads: cores, port: port2 };
      try {
        const limitMs = PREPARING_LIMITS * limitOf([rows.dataset]);
        await run<null>(preparing, 'prepare', task, { limitMs, transferList: [port2] });
      } finally {
        port1.close();
      }
    },
    viewRows: (view) => run(viewing, 'view', view satisfies ViewTask, { limitMs: timeoutMs }),
  };
}

interface PoolSize {
  minThreads?: number;
  maxThreads: number;
  niceIncrement?: number;
}

/** The threads for a kind of task. */
interface TaskThreads {
  /** Tasks that run at once. */
  count: number;
  pool: () => Piscina;
}

/** Threads, and the tasks that wait for them. */
interface Line {
  threads: TaskThreads;
  turns: ConcurrencyQueue;
}

interface RunOptions {
  /** The key whose turn it is. @defaultValue none: in the order in which the tasks came */
  owner?: Owner;
  /** Limit for the work, without waiting for it. */
  limitMs: number;
  /** Ends the waiting. @defaultValue after ten minutes */
  waiting?: AbortSignal;
  transferList?: MessagePort[];
}

/** @throws ProductError of the task; `timeout`, `quota_exceeded`, `service_unavailable`, `does_not_fit` */
async function run<Result>(
  { threads, turns }: Line,
  name: string,
  task: object,
  { owner = null, limitMs, waiting, transferList = [] }: RunOptions,
): Promise<Result> {
  let release = () => {};
  try {
    release = await turns
      .enter(owner, placesOf(owner, threads.count), waiting ?? AbortSignal.timeout(MAX_WAIT_MS))
      .catch((error: unknown) => {
        throw (error as Error).name === 'TimeoutError' ? othersArePlanned(error) : error;
      });
    const signal = AbortSignal.timeout(limitMs);
    const answer: ThreadAnswer<Result> = await threads.pool().run(task, { name, signal, transferList });
    return resultOf(triedOf(answer));
  } catch (error) {
    throw poolError(error as Error, limitMs);
  } finally {
    release();
  }
}

function reportOf(planned: Tried<Planned>): Tried<Report> {
  return 'error' in planned ? planned : { result: planned.result.report };
}

/** @param planned - null or undefined: the job was not planned completely */
function checkedOf(outline: Tried<JobOutline>, planned: ThreadAnswer<Planned> | null | undefined): Tried<Checked> {
  if (planned == null) return 'error' in outline ? outline : { result: { ...outline.result, planned: undefined } };
  const tried = triedOf(planned);
  if ('error' in tried) return tried;
  const { report, leastMemory } = tried.result;
  const { adapter_bytes: adapterBytes, tokens, estimate } = report;
  const work = { tokens: tokens.total, seconds: estimate?.total_seconds ?? null, memory: leastMemory };
  return { result: { adapterBytes, planned: work } };
}

/** A value that is made when it is first asked for. */
function lazily<Made>(make: () => Made): () => Made {
  let made: Made | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function othersArePlanned(cause: unknown): ProductError {
  const message = 'Other jobs are being planned, and take long. Try again later.';
  return new ProductError('service_unavailable', message, { cause });
}

function poolError(error: Error & { code?: string }, limitMs: number): unknown {
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
