import type { AdapterFile, ErrorCode } from '@lorasmith/contracts';

/** What the merge process is asked, once in its life. All paths are absolute. */
export interface MergeRequest {
  /** The base model. */
  modelFolder: string;
  /** sha256 of the weights the adapter was trained on. */
  weightsSha256: string;
  /** Name of the adapter, for messages. */
  adapter: string;
  /** A PEFT folder. */
  adapterFolder: string;
  /** Empty; filled with the merged model. */
  outputFolder: string;
}

/** What the merge process says; nothing follows `merged` or `failed`. */
export type MergeMessage =
  | { type: 'progress'; doneBytes: number; totalBytes: number }
  | { type: 'merged'; files: AdapterFile[] }
  | { type: 'failed'; code: ErrorCode; message: string };
