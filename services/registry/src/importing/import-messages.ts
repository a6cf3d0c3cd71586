import type { AdapterManifest } from '@lorasmith/contracts';
import type { StoredBounds } from './stored-bytes.js';

/** The only request to an import process. All paths are absolute. */
export interface ImportRequest {
  /** Contains the two PEFT files as received. */
  adapterFolder: string;
  /** Empty; receives the two rewritten files. */
  outputFolder: string;
  modelsDir: string;
  baseModel: string;
  /** Where digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  bounds: StoredBounds;
}

/** Describes the rewritten adapter. */
export type ImportResult = Pick<AdapterManifest, 'base_model' | 'lora' | 'files'>;
