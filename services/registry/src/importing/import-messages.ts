import type { AdapterManifest } from '@lorasmith/contracts';
import type { StoredBounds } from './stored-bytes.js';

/** What the import process is asked, once in its life. All paths are absolute. */
export interface ImportRequest {
  /** The two PEFT files as they came. */
  adapterFolder: string;
  /** Empty; filled with the two files as we write them. */
  outputFolder: string;
  modelsDir: string;
  baseModel: string;
  bounds: StoredBounds;
}

/** What it found and made. */
export type ImportResult = Pick<AdapterManifest, 'base_model' | 'lora' | 'files'>;
