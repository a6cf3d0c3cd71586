import type { AdapterManifest } from '@lorasmith/contracts';

/** What the import process is asked, once in its life. All paths are absolute. */
export interface ImportRequest {
  /** The two PEFT files as they came. */
  adapterFolder: string;
  /** Empty; filled with the two files as we write them. */
  outputFolder: string;
  modelsDir: string;
  baseModel: string;
}

/** What it found and made. */
export type ImportResult = Pick<AdapterManifest, 'base_model' | 'lora' | 'files'>;
