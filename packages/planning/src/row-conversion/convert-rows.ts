import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { ProductError, type RenderedRow } from '@lorasmith/contracts';
import type { ModelTexts } from '@lorasmith/model-folder';
import type { ExampleNotes, ExampleWriter } from '../example-file/example-file.js';
import { type CodedFault, FaultList, planningStopped, throwIfPlanningStopped } from '../fault-list.js';
import { type Line, readLines } from '../json-lines.js';
import { type Objective, RemarkCounts, type RowsOfModel } from '../objectives/objective.js';
import { BatchConverter, type ConvertedBatch, RECORD_NUMBERS } from './batch-converter.js';
import { ConversionThreads } from './conversion-threads.js';

export interface ConvertRowsOptions extends RowsOfModel {
  objective: Objective;
  /** JSONL. */
  rowsFile: string;
  /** The texts for this thread. */
  texts: ModelTexts;
  /** Receives the examples. */
  writer: ExampleWriter;
  /** The fault of a row with this number of tokens, for the job; it is listed with those of other rows. */
  lengthFault?: ((tokens: number) => CodedFault | null) | undefined;
  /** Called at the start, at most twice a second, and at the end. */
  onProgress?: ((progress: TokenizingProgress) => void) | undefined;
  /** The threads that convert, this one included. */
  threads: number;
  signal?: AbortSignal | undefined;
}

/** The outcome of the rows. With faults, the examples are not complete. */
export type ConvertedRows = { notes: ExampleNotes; faults: null } | { notes: null; faults: FaultList };

/** Milliseconds in which this thread converts rows before it yields to the event loop. */
const YIELD_EVERY_MS = 20;
const PROGRESS_EVERY_MS = 500;
/** Maximum bytes of lines that are read ahead: more than the threads convert while one of them is slow. */
const MAX_BYTES_READ_AHEAD = 2 * 2 ** 20;

/**
 * Converts every row of a dataset. The result does not depend on the number of threads.
 *
 * @throws ProductError `invalid_dataset` when the file is not the one that was uploaded; `dataset_not_found`, `cancelled`,
 * `storage_full`, `does_not_fit`
 */
export async function convertRows(options: ConvertRowsOptions): Promise<ConvertedRows> {
  const { dataset, model, completionFormat, objective, rowsFile, texts, threads, signal } = options;
  // Loading a large tokenizer takes a moment, and slow rows more.
  options.onProgress?.({ rows: 0, totalRows: dataset.rows });
  const rows = { model, dataset, completionFormat };
  const converter = new BatchConverter(dataset, await objective.createConverter(rows, texts));
  const { kind } = objective;
  const converting = new ConversionThreads({ kind, rows, converter, beforeRow: yieldNowAndThen(signal), threads });
  const stop = () => void converting.stop(planningStopped(signal));
  signal?.addEventListener('abort', stop);
  try {
    const results = new ConversionResults(options, converter);
    const hash = createHash('sha256');
    const ahead: { batch: Promise<ConvertedBatch>; bytes: number }[] = [];
    let bytesAhead = 0;
    const addFirst = async () => {
      const { batch, bytes } = ahead.shift()!;
      results.add(await batch);
      bytesAhead -= bytes;
    };
    for await (const lines of readLines(rowsFile, { hash })) {
      throwIfPlanningStopped(signal);
      const batch = converting.convert(lines);
      // It is awaited in the order of the file; until then, its failure is not unhandled.
      batch.catch(() => {});
      const bytes = bytesOf(lines);
      ahead.push({ batch, bytes });
      bytesAhead += bytes;
      while (ahead.length > 0 && bytesAhead > MAX_BYTES_READ_AHEAD) await addFirst();
    }
    while (ahead.length > 0) await addFirst();
    return results.finish(hash.digest('hex'));
  } finally {
    signal?.removeEventListener('abort', stop);
    await converting.stop(new Error('converting has ended'));
  }
}

/** A function that yields to the event loop now and then. */
function yieldNowAndThen(signal: AbortSignal | undefined): () => Promise<void> | null {
  let yieldedAt = performance.now();
  const yieldToEvents = async () => {
    await setImmediate();
    throwIfPlanningStopped(signal);
    yieldedAt = performance.now();
  };
  return () => (performance.now() - yieldedAt > YIELD_EVERY_MS ? yieldToEvents() : null);
}

function bytesOf(lines: readonly Line[]): number {
  return lines.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0);
}

/** Collects the results of batches, in the order of the file. */
class ConversionResults {
  readonly #options: ConvertRowsOptions;
  readonly #converter: Pick<BatchConverter, 'rendered'>;
  readonly #faults = new FaultList();
  #hasFaultyRows = false;
  readonly #remarks = new RemarkCounts();
  #rows = 0;
  #longest = 0;
  #rendered: RenderedRow | null = null;
  #reportedAt = performance.now();

  constructor(options: ConvertRowsOptions, converter: Pick<BatchConverter, 'rendered'>) {
    this.#options = options;
    this.#converter = converter;
  }

  add(batch: ConvertedBatch): void {
    this.#write(batch);
    this.#addFaults(batch);
    for (const remark of batch.remarks) this.#remarks.add(remark);
    this.#rows += batch.rows;
    if (performance.now() - this.#reportedAt > PROGRESS_EVERY_MS) this.#report();
  }

  /** @param sha256 of the file */
  finish(sha256: string): ConvertedRows {
    const { dataset, objective } = this.#options;
    if (this.#rows !== dataset.rows) {
      throw damaged(`the file has ${this.#rows} rows, the upload had ${dataset.rows}`);
    }
    if (sha256 !== dataset.sha256) throw damaged('their sha256 differs');
    this.#report();
    if (this.#hasFaultyRows) return { notes: null, faults: this.#faults };
    const remarks = this.#remarks.all;
    const warnings = Object.entries(objective.remarkWarnings).flatMap(([code, warningOf]) =>
      remarks.filter((remark) => remark.code === code).map(warningOf),
    );
    const counts = { overflowed: 0, dropped: 0, truncated: 0, split: 0, longest: this.#longest };
    return { notes: { counts, warnings, rendered: this.#rendered }, faults: null };
  }

  #write({ records, codes }: ConvertedBatch): void {
    const { writer } = this.#options;
    // The shape of an example is the objective's, so its converter reads it.
    if (records.length > 0) this.#rendered ??= this.#converter.rendered(codes.subarray(0, records[0]!));
    for (let at = 0; at < records.length; at += RECORD_NUMBERS) {
      const row = this.#rows + records[at + 2]!;
      writer.addRecord({ codes: records[at]!, trained: records[at + 1]!, row, line: records[at + 3]! });
    }
    writer.addCodes(codes);
  }

  /** Adds faults of rows that cannot be converted and of rows that are too long, in the order of their lines. */
  #addFaults({ faults, records, codes }: ConvertedBatch): void {
    const { objective, lengthFault } = this.#options;
    const ofLength = new FaultList();
    let start = 0;
    for (let at = 0; at < records.length; at += RECORD_NUMBERS) {
      const own = codes.subarray(start, start + records[at]!);
      start += records[at]!;
      const tokens = objective.longestOf?.(own) ?? objective.tokensOf({ codes: own.length });
      this.#longest = Math.max(this.#longest, tokens);
      const fault = lengthFault?.(tokens) ?? null;
      if (fault !== null) ofLength.add({ ...fault, line: records[at + 3]! });
    }
    this.#hasFaultyRows ||= faults.count > 0;
    const listed = [...faults.listed, ...ofLength.listed].sort((a, b) => a.line! - b.line!);
    this.#faults.addAll({ listed, count: faults.count + ofLength.count, longest: ofLength.longest });
  }

  #report(): void {
    this.#reportedAt = performance.now();
    this.#options.onProgress?.({ rows: this.#rows, totalRows: this.#options.dataset.rows });
  }
}

function damaged(what: string): ProductError {
  const message = `The stored rows are damaged: ${what}. Upload the dataset again.`;
  return new ProductError('invalid_dataset', message, { param: 'dataset' });
}

/** The progress of a dataset's tokenization. */
export interface TokenizingProgress {
  /** Rows that are tokenized. */
  rows: number;
  totalRows: number;
}
