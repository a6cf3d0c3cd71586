import type { AdapterManifest } from '@lorasmith/contracts';

/** The only request to a merge process. All paths are absolute. */
export interface MergeRequest {
  /** The base model. */
  modelFolder: string;
  /** The base model that the adapter was trained on. */
  base: AdapterManifest['base_model'];
  /** Name of the adapter, for messages. */
  adapter: string;
  /** A PEFT folder. */
  adapterFolder: string;
  /** Where digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  /** Empty; receives the merged model. */
  outputFolder: string;
}

/** Progress of the merge process. Its result is the list of written files. */
export interface MergeProgress {
  doneBytes: number;
  totalBytes: number;
}
