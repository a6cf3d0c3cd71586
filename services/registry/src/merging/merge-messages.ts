import type { AdapterManifest } from '@lorasmith/contracts';
import type { DerivedForm } from './derived-form.js';

/** The only request to a merge process. All paths are absolute. */
export interface MergeRequest {
  /** The base model. */
  modelFolder: string;
  /** The manifest of the adapter. */
  manifest: AdapterManifest;
  form: DerivedForm;
  /** A PEFT folder. */
  adapterFolder: string;
  /** Where digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  /** Empty; receives the files. */
  outputFolder: string;
}

/** Progress of the merge process. Its result is the list of written files. */
export interface MergeProgress {
  doneBytes: number;
  totalBytes: number;
}
