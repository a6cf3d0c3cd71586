import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { type Dataset, type FeaturesRow, ProductError, type TextualRow } from '@lorasmith/contracts';
import { checkRow } from './dataset-row.js';
import { type CodedFault, FaultList } from './fault-list.js';
import { type RawRow, readRows } from './jsonl/read-rows.js';
import type { RowConverter } from './objectives/objective.js';
import { throwIfPlanningStopped } from './planning-stopped.js';

export interface ConvertRowsOptions {
  dataset: Dataset;
  /** JSONL. */
  rowsFile: string;
  converter: RowConverter;
  /** Receives what is wrong with rows. */
  faults: FaultList;
  signal?: AbortSignal | undefined;
}

/** How long rows are converted before the event loop gets a turn. */
const YIELD_EVERY_MS = 20;

/**
 * Converts every row of a dataset, one at a time.
 *
 * @throws ProductError `invalid_dataset` when the file is not the one that was uploaded; `dataset_not_found`, `cancelled`,
 * `storage_full`
 */
export async function convertRows({ dataset, rowsFile, converter, faults, signal }: ConvertRowsOptions): Promise<void> {
  let rows = 0;
  let yieldedAt = performance.now();
  const hash = createHash('sha256');
  for await (const raw of readRows(rowsFile, hash)) {
    if (performance.now() - yieldedAt > YIELD_EVERY_MS) {
      await setImmediate();
      throwIfPlanningStopped(signal);
      yieldedAt = performance.now();
    }
    const found = addRow(converter, dataset, raw, rows);
    faults.add(...found.map((fault) => ({ ...fault, line: raw.line })));
    rows++;
  }
  if (rows !== dataset.rows) throw damaged(`the file has ${rows} rows, the upload had ${dataset.rows}`);
  if (hash.digest('hex') !== dataset.sha256) throw damaged('their sha256 differs');
}

function damaged(what: string): ProductError {
  const message = `The stored rows are damaged: ${what}. Upload the dataset again.`;
  return new ProductError('invalid_dataset', message, { param: 'dataset' });
}

/** @returns what is wrong with the row */
function addRow(converter: RowConverter, dataset: Dataset, raw: RawRow, index: number): CodedFault[] {
  if (raw.fault !== null) return [{ code: 'invalid_dataset', message: raw.fault }];
  const { format, row, faults } = checkRow(raw.value);
  if (row === null) return faults;
  if (format !== dataset.format) {
    const message = `The row has the format ${format}, but the dataset has ${dataset.format}.`;
    return [{ code: 'invalid_dataset', message }];
  }
  try {
    // The objective was chosen for the format of the dataset, and so of this row.
    return converter.add(row as TextualRow & FeaturesRow, { line: raw.line, row: index });
  } catch (error) {
    // A full disk is no fault of the row.
    if (!(error instanceof ProductError) || error.code === 'storage_full') throw error;
    const found = new FaultList();
    found.addError(error);
    return found.listed;
  }
}
