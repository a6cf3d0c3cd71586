import { datasetNotFound, readDataset } from '@lorasmith/artifacts';
import { mapWithConcurrency, pause } from '@lorasmith/concurrency';
import {
  type Comparison,
  type ComparisonRow,
  DATASET_FILES,
  type DatasetFormat,
  type DatasetId,
  ProductError,
  publicText,
} from '@lorasmith/contracts';
import { compilePairJudge } from '@lorasmith/graders';
import { type AskedRow, answersByPrompt, drawAskedRows, type UnaskedRow } from '@lorasmith/planning';
import { type ClaimedComparison, COMPARISON_LEASE_MS, type GenerationClient, type JobStore } from '@lorasmith/queue';
import { linkSignals } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';
import type { JudgeClient } from '../judging/judge-client.js';
import { CancelledError, LeftError, reportedClaim, WorkLease } from '../leased-work.js';
import { startClaiming } from '../webhooks/webhook-delivery.js';
import { resultOf } from './comparison-result.js';
import { judgeFailed, newRow, RowComparison, type RowComparisonOptions, type StoredAnswers } from './row-comparison.js';

/** Comparisons of an api process at once, and rows of each: both models are asked for each of them, and chats want workers, too. */
const AT_ONCE = 2;
const ROWS_AT_ONCE = 4;
/** Rows that fail one after the other, after which the others are not tried. */
const MAX_FAILED_IN_A_ROW = 10;
/** Processes that may die over one comparison without another row of it. */
const MAX_ATTEMPTS = 5;
const POLL_MS = 1_000;
const RENEW_MS = COMPARISON_LEASE_MS / 10;
/** Limits, for docs/limits.md. */
export const comparisonRunnerLimits = {
  atOnce: { value: AT_ONCE, unit: 'comparisons', beyond: 'further ones wait' },
  rowsAtOnce: { value: ROWS_AT_ONCE, unit: 'rows', beyond: 'further ones wait' },
  failed: { value: MAX_FAILED_IN_A_ROW, unit: 'rows', beyond: 'the comparison fails' },
};

export interface ComparisonRunnerOptions extends Pick<RowComparisonOptions, 'delaysMs' | 'patienceMs'> {
  store: JobStore['comparisons'];
  datasets: Pick<BundleStore, 'has' | 'readJson' | 'lease'>;
  generation: Pick<GenerationClient, 'ask'>;
  judges: Pick<JudgeClient, 'say'>;
  log: FastifyBaseLogger;
  /** @defaultValue 1 s */
  pollMs?: number;
  /** The time between two renewals of a lease, in which a cancel is noticed. @defaultValue 3 s */
  renewMs?: number;
}

/**
 * Makes the comparisons that are due. Several processes may: each comparison is leased by one at a time, and resumed by another if that
 * one dies.
 * @returns stops it; what is under way is left to the next process
 */
export function startComparisons(options: ComparisonRunnerOptions): () => Promise<void> {
  const { store, log, pollMs = POLL_MS } = options;
  const claim = reportedClaim(() => store.claim(), { log, message: 'comparisons cannot be read' });
  return startClaiming<ClaimedComparison>({
    atOnce: AT_ONCE,
    async next(isFull, signal) {
      const claimed = isFull ? null : await claim();
      if (claimed === null) await pause(pollMs, signal);
      return claimed;
    },
    attempt: (claimed, signal) =>
      new RunningComparison(claimed, options, signal).run().catch((error: unknown) => {
        const comparison = claimed.comparison.id;
        log.warn({ err: error, comparison }, 'the state of a comparison could not be stored; it is resumed');
      }),
  });
}

/** A comparison that this process has leased. */
class RunningComparison {
  readonly #claimed: ClaimedComparison;
  readonly #options: ComparisonRunnerOptions;
  readonly #lease: WorkLease;
  /** Stops the other rows when one shows that none can be compared. */
  readonly #failing = new AbortController();
  /** The rows that have been begun, by number. */
  readonly #rows = new Map<number, ComparisonRow>();
  #comparison: Comparison;
  #failedInARow = 0;

  constructor(claimed: ClaimedComparison, options: ComparisonRunnerOptions, ending: AbortSignal) {
    const { comparison, token } = claimed;
    this.#claimed = claimed;
    this.#options = options;
    this.#comparison = {
      ...comparison,
      status: 'running',
      started_at: comparison.started_at ?? new Date().toISOString(),
    };
    this.#lease = new WorkLease({
      renew: () => options.store.write(comparison.id, token),
      leaseMs: COMPARISON_LEASE_MS,
      renewMs: options.renewMs ?? RENEW_MS,
      ending,
    });
  }

  async run(): Promise<void> {
    const { signal, unlink } = linkSignals([this.#lease.signal, this.#failing.signal]);
    try {
      await this.#compare(signal);
      await this.#end({ status: 'succeeded' });
    } catch (error) {
      await this.#failed(error);
    } finally {
      unlink();
      this.#lease.release();
    }
  }

  async #compare(signal: AbortSignal): Promise<void> {
    const { comparison, attempts } = this.#claimed;
    if (attempts > MAX_ATTEMPTS) {
      const message = `It was interrupted ${MAX_ATTEMPTS} times without another row. The log of the api has more.`;
      throw new ProductError('internal_error', message);
    }
    await this.#write({ comparison: this.#comparison });
    const { asked, stored } = await this.#read(signal);
    const numbers = asked.map((_, index) => index + 1);
    for (const row of await this.#options.store.rows(comparison.id, numbers)) this.#rows.set(row.number, row);
    this.#countProgress(asked.length);
    const isFirst = comparison.progress === null;
    const event = { type: 'comparison-started', data: { rows: asked.length } } as const;
    await this.#write({ comparison: this.#comparison, ...(isFirst && { event }) });
    const { id } = comparison;
    this.#options.log.info({ comparison: id, rows: asked.length, kept: this.#rows.size }, 'comparing');
    const rowComparison = new RowComparison({
      ...this.#options,
      comparison,
      judge: compilePairJudge(comparison.judge),
      stored,
      keep: (row) => this.#write({ row }),
    });
    await mapWithConcurrency(asked, ROWS_AT_ONCE, async (one) => {
      const number = asked.indexOf(one) + 1;
      const row = this.#rows.get(number) ?? newRow(one, number);
      if (row.outcome !== null) return;
      try {
        await this.#finished(await rowComparison.finish(one, row, signal), asked.length);
      } catch (error) {
        this.#failing.abort(error);
        throw error;
      }
    });
    const { rows, failures } = resultOf([...this.#rows.values()]);
    if (rows === 0) throw judgeFailed(`none of ${asked.length} rows has a verdict. ${failures[0]?.reason ?? ''}`);
  }

  async #finished(row: ComparisonRow, total: number): Promise<void> {
    this.#rows.set(row.number, row);
    this.#failedInARow = row.outcome === 'failed' ? this.#failedInARow + 1 : 0;
    const data = this.#countProgress(total);
    await this.#write({ comparison: this.#comparison, row, event: { type: 'comparison-progressed', data } });
    if (this.#failedInARow >= MAX_FAILED_IN_A_ROW) {
      throw judgeFailed(`${MAX_FAILED_IN_A_ROW} rows failed one after the other. ${row.error ?? ''}`);
    }
  }

  #countProgress(total: number) {
    const rows = [...this.#rows.values()].filter(({ outcome }) => outcome !== null).length;
    const progress = { rows, total };
    this.#comparison = { ...this.#comparison, progress };
    return progress;
  }

  /** The rows to compare, the same for every attempt, and the stored answers of the sides that have such. */
  async #read(signal: AbortSignal): Promise<{ asked: (AskedRow | UnaskedRow)[]; stored: (StoredAnswers | null)[] }> {
    const { dataset, models, rows: count, seed } = this.#comparison;
    const stored: (StoredAnswers | null)[] = [];
    for (const { answers } of models) {
      stored.push(
        answers === null ? null : await this.#rowsOf(answers, (rows) => answersByPrompt({ ...rows, signal })),
      );
    }
    const keys = stored.reduce<ReadonlySet<string> | undefined>((common, answers) => {
      if (answers === null) return common;
      return new Set([...answers.keys()].filter((key) => common?.has(key) ?? true));
    }, undefined);
    const asked = await this.#rowsOf(dataset, (rows) => drawAskedRows({ ...rows, count, seed, keys, signal }));
    if (asked.length > 0) return { asked, stored };
    const names = models.flatMap(({ answers }) => answers ?? []).join(' and ');
    const message = `No row of ${dataset} has a prompt to which ${names} has an answer. Compare over ${names} itself: its rows are the prompts that were asked.`;
    throw new ProductError('invalid_comparison', message, { param: 'models' });
  }

  /** Reads the rows of a dataset, which stay until they are read. @throws ProductError `dataset_not_found` */
  async #rowsOf<Rows>(
    id: DatasetId,
    read: (rows: { rowsFile: string; format: DatasetFormat }) => Promise<Rows>,
  ): Promise<Rows> {
    const { datasets } = this.#options;
    const { format } = await readDataset(datasets, id);
    const lease = await datasets.lease(id).catch((error: unknown) => {
      throw error instanceof ProductError && error.code === 'not_found' ? datasetNotFound(id) : error;
    });
    try {
      return await read({ rowsFile: lease.path(DATASET_FILES.rows), format });
    } finally {
      lease.release();
    }
  }

  async #failed(error: unknown): Promise<void> {
    const { store, log } = this.#options;
    const { token, comparison } = this.#claimed;
    const { reason } = this.#lease.signal;
    if (reason instanceof CancelledError) return await this.#end({ status: 'cancelled' });
    if (error instanceof LeftError || reason instanceof LeftError) return await store.giveBack(comparison.id, token);
    // Nothing can be stored now; once the lease has ended, a process resumes it.
    if (error instanceof ProductError && error.code === 'redis_unavailable') throw error;
    const failure = failureOf(error);
    // A message may quote the judge, and so the rows. The record has it.
    const facts = error instanceof ProductError ? { code: failure.code } : { err: error };
    log.warn({ ...facts, comparison: comparison.id }, 'a comparison failed');
    await this.#end({ status: 'failed', error: failure });
  }

  async #end(end: Pick<Comparison, 'status'> & Partial<Pick<Comparison, 'error'>>): Promise<void> {
    const { store, log } = this.#options;
    const { token, comparison } = this.#claimed;
    const result = this.#rows.size === 0 ? null : resultOf([...this.#rows.values()]);
    const outcome = await store.end({ ...this.#comparison, ...end, result }, token);
    const facts = { comparison: comparison.id, code: end.error?.code, judgeTokens: result?.tokens.judge };
    if (outcome === 'done') log.info(facts, `the comparison has ${end.status}`);
  }

  /** @throws the reason to stop */
  async #write(written: Parameters<JobStore['comparisons']['write']>[2]): Promise<void> {
    const { store } = this.#options;
    const { token, comparison } = this.#claimed;
    this.#lease.heed(await store.write(comparison.id, token, written));
    this.#lease.signal.throwIfAborted();
  }
}

function failureOf(error: unknown): NonNullable<Comparison['error']> {
  if (!(error instanceof ProductError)) {
    return { code: 'internal_error', message: 'Internal error. The log of the api has it.', details: [] };
  }
  return { code: error.code, message: publicText(error).message, details: error.details };
}
