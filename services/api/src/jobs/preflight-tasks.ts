import type { MessagePort } from 'node:worker_threads';
import type { AdapterManifest, JobSpec, MachineProfile, Report, UploadedDataset } from '@lorasmith/contracts';
import type {
  ExampleStoreOptions,
  PlanWithoutRows,
  RowEncoding,
  ValidationRows,
  ViewRowsOptions,
} from '@lorasmith/planning';
import type { ThreadAnswer } from '../threads.js';

// The tasks of the threads that plan (`preflight-thread.ts`): their arguments and their answers.

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

/** All datasets that a job reads: the one to train on, and the one that `validation.dataset` names. */
export function datasetsOf(job: {
  dataset: UploadedDataset;
  validation: { dataset: UploadedDataset } | null;
}): UploadedDataset[] {
  return job.validation === null ? [job.dataset] : [job.dataset, job.validation.dataset];
}

interface Shared {
  /** The store of datasets as tokens. */
  tokens: ExampleStoreOptions;
}

export interface ReportTask extends Shared {
  jobs: PlannedJobs;
  threads: number;
  /** Planning gives up at this time (`Date.now()`); null: it takes as long as it needs. */
  deadlineMs: number | null;
}

/** The report of a planned job, and the memory of a machine with which it would just fit; null: unknown. */
export interface Planned {
  report: Report;
  leastMemory: number | null;
}

export interface PlanWithoutRowsTask extends Shared {
  jobs: PlannedJobs;
  /** The most bytes of rows, or of stored tokens, that are planned before the answer. */
  quick: { rowBytes: number; tokenBytes: number };
}

/** The facts about each of the jobs that are known without their rows, and whether planning them completely is quick. */
export interface PlansWithoutRows {
  plans: ThreadAnswer<PlanWithoutRows>[];
  isQuick: boolean;
}

/** A dataset, and a base model that may be trained on it. */
export interface PreflightRows {
  modelsDir: string;
  baseModel: string;
  dataset: UploadedDataset;
  rowsFile: string;
}

export interface TokensTask extends Shared {
  rows: PreflightRows;
}

export interface PrepareTask extends TokensTask {
  threads: number;
  /** Receives the progress. */
  port: MessagePort;
}

/** Rows to show. */
export interface ViewTask extends Omit<ViewRowsOptions, 'encoding'> {
  /** The encoding of rows as tokens; null: only their text is shown. */
  encoding: { modelsDir: string; baseModel: string; settings: RowEncoding['settings'] } | null;
}
