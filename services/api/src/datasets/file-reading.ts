import type { ColumnChoice } from '@lorasmith/row-files';

/** The only request to a process that reads a file: it sends the rows of a Parquet file as JSONL, and the content of a zstd file. */
export interface FileReading {
  form: 'parquet' | 'zstd';
  /** An absolute path. */
  file: string;
  columns: ColumnChoice;
  maxRows: number;
  /** The most bytes that it sends. */
  maxBytes: number;
}
