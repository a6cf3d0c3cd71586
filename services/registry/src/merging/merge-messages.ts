import type { AdapterManifest } from '@lorasmith/contracts';

/** What the merge process is asked, once in its life. All paths are absolute. */
export interface MergeRequest {
  /** The base model. */
  modelFolder: string;
  /** What the adapter was trained on. */
  base: AdapterManifest['base_model'];
  /** Name of the adapter, for messages. */
  adapter: string;
  /** A PEFT folder. */
  adapterFolder: string;
  /** Empty; filled with the merged model. */
  outputFolder: string;
}

/** How far the merge process has come; it ends with the files it made. */
export interface MergeProgress {
  doneBytes: number;
  totalBytes: number;
}
