import { type Fault, ProductError, type UploadedDataset } from '@lorasmith/contracts';
import type { ExampleFile } from './example-file/example-file.js';
import type { OpenExamples } from './example-file/example-store.js';
import { FaultList } from './fault-list.js';
import { type PrepareExamplesOptions, prepareExamples } from './prepare-examples.js';
import { rowsInBoth } from './rows-in-both.js';

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
