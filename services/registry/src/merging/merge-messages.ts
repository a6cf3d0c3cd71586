/** What the merge process is asked, once in its life. All paths are absolute. */
export interface MergeRequest {
  /** The base model. */
  modelFolder: string;
  /** sha256 of the weights the adapter was trained on. */
  weightsSha256: string;
  /** Digest of the architecture it was trained on; undefined where its manifest does not say. */
  architectureSha256: string | undefined;
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
