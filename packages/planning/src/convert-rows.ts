import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { type Dataset, type FeaturesRow, ProductError, type TextualRow } from '@lorasmith/contracts';
import { checkRow } from './dataset-row.js';
import { type CodedFault, FaultList } from './fault-list.js';
import { throwIfPlanningStopped } from './planning-stopped.js';
import { type RawRow, readRows } from './read-rows.js';
import type { RowCollector } from './row-collector.js';

export interface ConvertRowsOptions {
  dataset: Dataset;
  /** JSONL. */
  rowsFile: string;
  collector: RowCollector;
  /** Gets what is wrong with rows. */
  faults: FaultList;
  signal?: AbortSignal | undefined;
}

/** The event loop gets its turn this often. */
const BREATHE_EVERY_MS = 20;

/**
 * Gives every row of a dataset to the collector, one at a time.
 *
 * @throws ProductError `invalid_dataset` when the file is not the one that was uploaded; `dataset_not_found`, `cancelled`,
 * `storage_full`
 */
export async function convertRows({ dataset, rowsFile, collector, faults, signal }: ConvertRowsOptions): Promise<void> {
  let rows = 0;
  let breathedAt = performance.now();
  const hash = createHash('sha256');
  for await (const raw of readRows(rowsFile, hash)) {
    if (performance.now() - breathedAt > BREATHE_EVERY_MS) {
      await setImmediate();
      throwIfPlanningStopped(signal);
      breathedAt = performance.now();
    }
    const found = addRow(collector, dataset, raw, rows);
    faults.add(...found.map((fault) => ({ ...fault, line: raw.line })));
    rows++;
  }
  if (rows !== dataset.rows) throw damaged(`there are ${rows} rows, there were ${dataset.rows}`);
  if (hash.digest('hex') !== dataset.sha256) throw damaged('their sha256 is another one');
}

function damaged(what: string): ProductError {
  const message = `The stored rows are damaged: ${what}. Upload the dataset again.`;
  return new ProductError('invalid_dataset', message, { param: 'dataset' });
}

/** @returns what is wrong with the row */
function addRow(collector: RowCollector, dataset: Dataset, raw: RawRow, place: number): CodedFault[] {
  if ('fault' in raw) return [{ code: 'invalid_dataset', message: raw.fault }];
  const { format, row, faults } = checkRow(raw.value);
  if (row === null) return faults;
  if (format !== dataset.format) {
    const message = `The row has the format ${format}, the dataset ${dataset.format}.`;
    return [{ code: 'invalid_dataset', message }];
  }
  try {
    // The format of the dataset, and so of this row, is one that the collector takes.
    return collector.add(row as TextualRow & FeaturesRow, { line: raw.line, row: place });
  } catch (error) {
    // A full disk is no fault of the row.
    if (!(error instanceof ProductError) || error.code === 'storage_full') throw error;
    const found = new FaultList();
    found.addError(error);
    return found.kept;
  }
}
