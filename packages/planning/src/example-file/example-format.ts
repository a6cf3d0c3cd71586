import { closed, Fault, RenderedRow } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

/**
 * The files in a folder of examples: an index of records of one size, the codes of all examples (`words.bin`), and a summary. What
 * the codes of an example mean, its objective says.
 */
export const EXAMPLE_FILES = { index: 'index.bin', words: 'words.bin', summary: 'summary.json' } as const;

/** The location of an example's codes, and its numbers that batches and estimates read. */
export interface ExampleRecord {
  /** First of its codes, counted from 0. */
  start: number;
  /** Codes of 4 bytes. */
  codes: number;
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
  into.setUint32(offset + 8, record.codes, true);
  into.setUint32(offset + 12, record.trained, true);
  into.setUint32(offset + 16, record.row, true);
  into.setUint32(offset + 20, record.line, true);
}

export function readRecord(from: DataView, offset: number): ExampleRecord {
  return {
    start: from.getFloat64(offset, true),
    codes: from.getUint32(offset + 8, true),
    trained: from.getUint32(offset + 12, true),
    row: from.getUint32(offset + 16, true),
    line: from.getUint32(offset + 20, true),
  };
}

const count = Type.Integer({ minimum: 0 });

const FileDigest = Type.Object({ bytes: count, sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }) }, closed);

/** The outcomes of the rows, as the report counts them. */
export const RowCounts = Type.Object(
  { overflowed: count, dropped: count, truncated: count, split: count, longest: count },
  closed,
);
export type RowCounts = Static<typeof RowCounts>;

/** The part of a job's report about the rows, besides their split. */
export const ExampleNotes = Type.Object(
  { counts: RowCounts, warnings: Type.Array(Fault), rendered: Type.Union([RenderedRow, Type.Null()]) },
  closed,
);
export type ExampleNotes = Static<typeof ExampleNotes>;

/** Written last, next to the files that it describes. */
export const ExampleSummary = Type.Object(
  {
    /** Examples in the file. */
    count,
    notes: ExampleNotes,
    files: Type.Object({ index: FileDigest, words: FileDigest }, closed),
  },
  closed,
);
export type ExampleSummary = Static<typeof ExampleSummary>;

const schema = Compile(ExampleSummary);

export function isExampleSummary(value: unknown): value is ExampleSummary {
  return schema.Check(value);
}

/** The parts, one after the other, in memory of their own. */
export function concatenate(parts: readonly Int32Array[]): Int32Array<ArrayBuffer> {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let position = 0;
  for (const part of parts) {
    all.set(part, position);
    position += part.length;
  }
  return all;
}
