import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { type Fault, ProductError, type UploadedDataset } from '@lorasmith/contracts';
import type { ExampleFile, ExampleRecord } from './example-file/example-file.js';
import type { OpenExamples } from './example-file/example-store.js';
import { FaultList, throwIfPlanningStopped } from './fault-list.js';
import { type PrepareExamplesOptions, prepareExamples } from './prepare-examples.js';

/** The dataset that `validation.dataset` names. */
export interface ValidationRows {
  dataset: UploadedDataset;
  /** Its rows, JSONL. */
  rowsFile: string;
}

/**
 * The examples of the validation dataset, made and stored as those to train on.
 *
 * @param options - of the job
 * @returns null when its rows have faults, or are of another format than the objective's; the faults are in the list
 * @throws ProductError as {@link prepareExamples}
 */
export async function prepareValidation(
  { dataset, rowsFile }: ValidationRows,
  options: PrepareExamplesOptions,
): Promise<OpenExamples | null> {
  const { objective, faults, onProgress, dataset: trained } = options;
  // A fault already, found without the rows.
  if (!objective.formats.some(({ name }) => name === dataset.format)) return null;
  const ofRows = new FaultList();
  try {
    return await prepareExamples({
      ...options,
      dataset,
      rowsFile,
      faults: ofRows,
      onProgress:
        onProgress && (({ rows }) => onProgress({ rows: trained.rows + rows, totalRows: trained.rows + dataset.rows })),
    });
  } catch (error) {
    if (!(error instanceof ProductError) || error.param !== 'dataset') throw error;
    throw new ProductError(error.code, error.message, { param: 'validation.dataset', cause: error });
  } finally {
    faults.addOfDataset(dataset.id, ofRows);
  }
}

/** Warns if a job is evaluated on what it is trained on. @throws ProductError `cancelled` */
export async function trainedRowsWarnings(
  trained: { dataset: UploadedDataset; file: ExampleFile },
  validation: { dataset: UploadedDataset; file: ExampleFile },
  signal?: AbortSignal,
): Promise<Fault[]> {
  const warning = (message: string) => [{ code: 'validation_on_training_rows', message, param: 'validation.dataset' }];
  if (validation.dataset.id === trained.dataset.id) {
    return warning(
      'validation.dataset is the dataset that is trained on, so evaluations say nothing about other rows. Use validation.split, or another dataset.',
    );
  }
  const { rows, isLowerBound } = await rowsInBoth(trained.file, validation.file, signal);
  if (rows === 0) return [];
  const found = `${isLowerBound ? 'At least ' : ''}${rows} of the ${validation.dataset.rows} rows`;
  return warning(
    `${found} of the validation dataset are also trained on, so evaluations look better than they are. Remove them from one of the two.`,
  );
}

/** Codes to read of each dataset: about a second. */
const MAX_CODES = 32_000_000;
/** Reading an example costs as much as this many codes of it. */
const CODES_OF_A_READ = 256;
/** Records between two yields to the event loop. */
const SCAN_RECORDS = 10_000;

/**
 * The count of rows of the validation dataset that are the same example as a row to train on: the same tokens, of which the same are trained.
 * Only examples of a length that occurs in both are read, and of large datasets the first ones: then it is a lower bound.
 *
 * @throws ProductError `cancelled` when the signal is aborted
 */
export async function rowsInBoth(
  training: ExampleFile,
  validation: ExampleFile,
  signal?: AbortSignal,
): Promise<{ rows: number; isLowerBound: boolean }> {
  const lengths = new Set<number>();
  const rowsOf = new Map<string, number[]>();
  const isWhole = await readEach(validation, signal, (record, digest) => {
    lengths.add(record.codes);
    const key = digest();
    const rows = rowsOf.get(key);
    if (rows === undefined) rowsOf.set(key, [record.row]);
    else rows.push(record.row);
    return true;
  });
  const found = new Set<number>();
  const isComplete = await readEach(training, signal, ({ codes }, digest) => {
    if (!lengths.has(codes)) return false;
    for (const row of rowsOf.get(digest()) ?? []) found.add(row);
    return true;
  });
  return { rows: found.size, isLowerBound: !isWhole || !isComplete };
}

/** @param visit - Returns true if it has asked for the digest. @returns false if the rest was left out */
async function readEach(
  file: ExampleFile,
  signal: AbortSignal | undefined,
  visit: (record: ExampleRecord, digest: () => string) => boolean,
): Promise<boolean> {
  let codes = 0;
  for (let first = 0; first < file.count; first += SCAN_RECORDS) {
    for (const record of file.records(first, Math.min(SCAN_RECORDS, file.count - first))) {
      if (codes + record.codes > MAX_CODES) return false;
      if (visit(record, () => digestOf(file.codes(record)))) codes += record.codes + CODES_OF_A_READ;
    }
    await setImmediate();
    throwIfPlanningStopped(signal);
  }
  return true;
}

function digestOf(codes: Int32Array): string {
  return createHash('sha1').update(codes).digest('base64');
}
