/** Where the words of an example are, and what batches and estimates need to know of it. */
export interface ExampleRecord {
  /** First of its words, counted from 0. */
  start: number;
  /** Words of 4 bytes. */
  words: number;
  /** Targets of the loss. */
  trained: number;
  /** Index of its row among the rows of the dataset, from 0. */
  row: number;
  /** Line of the dataset it comes from, from 1. */
  line: number;
}

/** Records are of one size, so the n-th is found without reading those before it. */
export const RECORD_BYTES = 24;

/** Little-endian: `start` as float64, then four uint32. */
export function writeRecord(into: DataView, offset: number, record: ExampleRecord): void {
  into.setFloat64(offset, record.start, true);
  into.setUint32(offset + 8, record.words, true);
  into.setUint32(offset + 12, record.trained, true);
  into.setUint32(offset + 16, record.row, true);
  into.setUint32(offset + 20, record.line, true);
}

export function readRecord(from: DataView, offset: number): ExampleRecord {
  return {
    start: from.getFloat64(offset, true),
    words: from.getUint32(offset + 8, true),
    trained: from.getUint32(offset + 12, true),
    row: from.getUint32(offset + 16, true),
    line: from.getUint32(offset + 20, true),
  };
}
