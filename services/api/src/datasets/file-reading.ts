import type { ColumnChoice } from '@lorasmith/row-files';

/** The only request to a process that reads a file. All paths are absolute. */
export interface FileReading {
  form: 'parquet' | 'zstd';
  file: string;
  /** Receives the rows of a Parquet file as JSONL, and the content of a zstd file. */
  output: string;
  columns: ColumnChoice;
  maxRows: number;
  /** The most bytes of `output`. */
  maxBytes: number;
}
