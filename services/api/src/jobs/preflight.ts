import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { inTime } from '@lorasmith/concurrency';
import { type ErrorCode, type Owner, ProductError, type Report, type UploadedDataset } from '@lorasmith/contracts';
import type { ExampleStoreOptions, PlanWithoutRows, TokenizingProgress, ViewedRows } from '@lorasmith/planning';
import type { PlannedWork } from '@lorasmith/queue';
import { type ThreadAnswer, type Tried, triedOf } from '../threads.js';
import {
  datasetsOf,
  type Planned,
  type PlannedJobs,
  type PlansWithoutRows,
  type PlanWithoutRowsTask,
  type PreflightRows,
  type PrepareTask,
  type ReportTask,
  type TokensTask,
  type ViewTask,
} from './preflight-tasks.js';
import { MAX_HEAP_MB, MAX_WAIT_MS, type PreflightThreads, TaskQueue } from './preflight-threads.js';

export interface PreflightOptions {
  threads: PreflightThreads;
  /** Maximum waiting tasks of a kind; of one key half as many. */
  maxWaiting: number;
  /** Limit for planning, without waiting for a thread, plus a time that depends on the size of the datasets. Then the thread is ended. */
  timeoutMs: number;
  /** Time in which {@link Preflight.check} may tokenize rows. 0: never. */
  budgetMs: number;
  /** The store of datasets as tokens. */
  tokens: ExampleStoreOptions;
}

/** The facts about a job that may be queued. */
export interface Checked extends PlanWithoutRows {
  planned: PlannedWork | undefined;
}

/** The limit for preparing tokens, as a multiple of that of a plan: nobody waits for them. */
const PREPARING_LIMITS = 10;
/** Short rows in a chat template are tokenized at 0.25 MB/s. Below half of that, the thread counts as hanging. */
const MS_PER_MEGABYTE = 10_000;
/** Each further variant of a sweep adds this to the time limit of the first. */
const MS_PER_VARIANT = 1_000;
/** The time in which the variants of a sweep are planned before they are queued, as a multiple of the budget of a job. */
const MOST_BUDGETS = 5;
/** Limits, for docs/limits.md. */
export const preflightLimits = {
  perMegabyte: { value: MS_PER_MEGABYTE, unit: 'ms', beyond: '504 `timeout`' },
  perVariant: { value: MS_PER_VARIANT, unit: 'ms', beyond: '504 `timeout`' },
  preparing: { value: PREPARING_LIMITS, unit: 'times that', beyond: 'their `error` is `timeout`' },
  heap: { value: MAX_HEAP_MB, unit: 'MB', beyond: '422 `does_not_fit`' },
  wait: { value: MAX_WAIT_MS, unit: 'ms', beyond: '503 `service_unavailable`' },
};
/** The errors of a task that could not begin. */
const BUSY: readonly ErrorCode[] = ['service_unavailable', 'quota_exceeded', 'timeout'];
/** Bytes of rows that a core tokenizes in a millisecond, once the tokenizer is loaded. */
const ROW_BYTES_PER_MS = 1_000;
/** Bytes of stored tokens that are checked and read in a millisecond. */
const TOKEN_BYTES_PER_MS = 200_000;
/** The most threads that tokenize: each has a tokenizer in memory, up to some hundred MB. */
const MAX_TOKENIZING_THREADS = 4;

/** A report or an error for each job; null for one that takes longer than its budget, or could not begin. */
type Reports = (ThreadAnswer<Planned> | null)[];

/** Plans jobs outside the event loop: a chat template is code of a model, and may loop forever. Keys alternate. */
export class Preflight {
  readonly #timeoutMs: number;
  readonly #budgetMs: number;
  readonly #tokens: ExampleStoreOptions;
  readonly #cores = Math.min(availableParallelism(), MAX_TOKENIZING_THREADS);
  readonly #large: TaskQueue;
  readonly #quick: TaskQueue;
  readonly #withoutRows: TaskQueue;
  readonly #viewing: TaskQueue;
  readonly #preparing: TaskQueue;

  constructor({ threads, maxWaiting, timeoutMs, budgetMs, tokens }: PreflightOptions) {
    this.#timeoutMs = timeoutMs;
    this.#budgetMs = budgetMs;
    this.#tokens = tokens;
    this.#large = new TaskQueue(threads.large, maxWaiting);
    this.#quick = new TaskQueue(threads.quick, maxWaiting);
    this.#withoutRows = new TaskQueue(threads.withoutRows, maxWaiting);
    this.#viewing = new TaskQueue(threads.viewing, maxWaiting);
    this.#preparing = new TaskQueue(threads.preparing, maxWaiting);
  }

  /**
   * Plans jobs completely. Large jobs have threads of their own, so that no small one waits for them.
   * @returns a report of each, or the errors of planning it
   * @throws ProductError faults that all have in common; `timeout`; `quota_exceeded`, `service_unavailable` if too many tasks wait
   */
  async report(jobs: PlannedJobs, owner: Owner): Promise<Tried<Report>[]> {
    const { isQuick } = await this.#plansWithoutRows(jobs, owner);
    const task: ReportTask = { jobs, tokens: this.#tokens, deadlineMs: null, threads: isQuick ? 1 : this.#cores };
    const queue = isQuick ? this.#quick : this.#large;
    const reports = await queue.run<Reports>(task, { name: 'report', owner, limitMs: this.#limitOfJobs(jobs) });
    return reports.map((report) => reportOf(triedOf(report!)));
  }

  /**
   * Checks jobs in a short time, whatever the size of their datasets: completely if their rows are few or stored as tokens.
   * Otherwise without the rows, which their trainers check first.
   *
   * @returns for each the facts if it may be queued, or its error; `planned` is known only if it was checked completely
   * @throws ProductError as {@link report}
   */
  async check(jobs: PlannedJobs, owner: Owner): Promise<Tried<Checked>[]> {
    const { plans, isQuick } = await this.#plansWithoutRows(jobs, owner);
    const reports = isQuick ? await this.#reportInBudget(jobs, owner) : null;
    return plans.map((plan, index) => checkedOf(triedOf(plan), reports?.[index]));
  }

  /** True if the rows are stored as tokens. @throws as {@link check} */
  async hasTokens(rows: PreflightRows): Promise<boolean> {
    const task: TokensTask = { rows, tokens: this.#tokens };
    return await this.#withoutRows.run(task, { name: 'hasTokens', limitMs: this.#timeoutMs });
  }

  /**
   * Stores the rows as tokens, unless they are stored. One dataset at a time.
   * @throws ProductError the faults of the rows; `timeout`
   */
  async prepare(rows: PreflightRows, onProgress: (progress: TokenizingProgress) => void): Promise<void> {
    const { port1, port2 } = new MessageChannel();
    port1.on('message', onProgress);
    const task: PrepareTask = { rows, tokens: this.#tokens, threads: this.#cores, port: port2 };
    try {
      const limitMs = PREPARING_LIMITS * this.#limitOf([rows.dataset]);
      await this.#preparing.run<null>(task, { name: 'prepare', limitMs, transferList: [port2] });
    } finally {
      port1.close();
    }
  }

  /** Shows rows, in a thread of its own. @throws the errors of planning that concern no row; `timeout`; `service_unavailable` */
  async viewRows(view: ViewTask): Promise<ViewedRows> {
    return await this.#viewing.run(view, { name: 'view', limitMs: this.#timeoutMs });
  }

  async #plansWithoutRows(jobs: PlannedJobs, owner: Owner): Promise<PlansWithoutRows> {
    const quick = {
      rowBytes: this.#budgetMs * ROW_BYTES_PER_MS,
      tokenBytes: this.#budgetMs * TOKEN_BYTES_PER_MS,
    };
    const task: PlanWithoutRowsTask = { jobs, tokens: this.#tokens, quick };
    const limitMs = this.#timeoutMs + limitOfMore(jobs);
    return await this.#withoutRows.run(task, { name: 'withoutRows', owner, limitMs });
  }

  async #reportInBudget(jobs: PlannedJobs, owner: Owner): Promise<Reports> {
    const none = jobs.specs.map(() => null);
    const ms = this.#budgetMs * Math.min(jobs.specs.length, MOST_BUDGETS);
    const task: ReportTask = { jobs, tokens: this.#tokens, deadlineMs: Date.now() + ms, threads: 1 };
    const options = { name: 'report', owner, limitMs: this.#limitOfJobs(jobs), waiting: AbortSignal.timeout(ms) };
    const reporting = this.#quick.run<Reports>(task, options).catch((error: unknown) => {
      if (error instanceof ProductError && BUSY.includes(error.code)) return none;
      throw error;
    });
    // What it finds later, the trainer finds, too.
    return await inTime(reporting, ms, () => none);
  }

  #limitOfJobs(jobs: PlannedJobs): number {
    return this.#limitOf(datasetsOf(jobs)) + limitOfMore(jobs);
  }

  #limitOf(datasets: readonly UploadedDataset[]): number {
    const bytes = datasets.reduce((sum, dataset) => sum + dataset.bytes, 0);
    return this.#timeoutMs + Math.ceil((bytes / 1e6) * MS_PER_MEGABYTE);
  }
}

/** The time limit of the variants of a sweep beyond that of the first, in milliseconds. */
function limitOfMore({ specs }: PlannedJobs): number {
  return (specs.length - 1) * MS_PER_VARIANT;
}

function reportOf(planned: Tried<Planned>): Tried<Report> {
  return 'error' in planned ? planned : { result: planned.result.report };
}

/**
 * The facts about a job, from its plan without rows and its report.
 * @param planned - null or undefined: the job was not planned completely
 */
function checkedOf(plan: Tried<PlanWithoutRows>, planned: ThreadAnswer<Planned> | null | undefined): Tried<Checked> {
  if (planned == null) return 'error' in plan ? plan : { result: { ...plan.result, planned: undefined } };
  const tried = triedOf(planned);
  if ('error' in tried) return tried;
  const { report, leastMemory } = tried.result;
  const { adapter_bytes: adapterBytes, tokens, estimate } = report;
  const work = { tokens: tokens.total, seconds: estimate?.total_seconds ?? null, memory: leastMemory };
  return { result: { adapterBytes, planned: work } };
}
