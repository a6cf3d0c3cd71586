/** How far a dataset is tokenized. */
export interface TokenizingProgress {
  /** Rows that are tokenized. */
  rows: number;
  totalRows: number;
}
