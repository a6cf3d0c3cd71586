import type { AdapterManifest, Dataset, ErrorCode, Fault, JobSpec, MachineProfile, Report } from '@lorasmith/contracts';

/** What a preflight thread is given. */
export interface PreflightTask {
  spec: JobSpec;
  modelsDir: string;
  dataset: Dataset;
  rowsFile: string;
  /** The manifest of the adapter that the job goes on with. */
  initial: AdapterManifest | null;
  /** What a worker measured of its machine; null: no estimate is made. */
  machine: MachineProfile | null;
}

/** What it answers; an error as plain data, since a class does not survive the way between threads. */
export type PreflightAnswer =
  | { report: Report }
  | { error: { code: ErrorCode; message: string; param: string | undefined; details: Fault[] } };
