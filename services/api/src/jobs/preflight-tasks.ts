import type { AdapterManifest, JobSpec, MachineProfile, UploadedDataset } from '@lorasmith/contracts';
import type { RowEncoding, ValidationRows, ViewRowsOptions } from '@lorasmith/planning';

/** Jobs that differ in settings alone, and the files that all of them name: one job, or the variants of a sweep. */
export interface PlannedJobs {
  /** One or more. Base model, dataset, validation, `init_from` and `completion_format` are those of the first. */
  specs: readonly JobSpec[];
  modelsDir: string;
  dataset: UploadedDataset;
  rowsFile: string;
  /** The rows of `validation.dataset`. */
  validation: ValidationRows | null;
  /** The manifest of the adapter that the jobs continue to train. */
  initial: AdapterManifest | null;
  /** The measured profile of a worker's machine; null: no estimate. */
  machine: MachineProfile | null;
}

/** A dataset, and a base model that may be trained on it. */
export interface PreflightRows {
  modelsDir: string;
  baseModel: string;
  dataset: UploadedDataset;
  rowsFile: string;
}

/** Rows to show. */
export interface RowsToView extends Omit<ViewRowsOptions, 'encoding'> {
  /** The encoding of rows as tokens; null: only their text is shown. */
  encoding: { modelsDir: string; baseModel: string; settings: RowEncoding['settings'] } | null;
}
