import { linesOfArray } from './array-lines.js';
import { withHead } from './chunk-head.js';
import { type ColumnChoice, isRowColumn } from './column-mapping.js';
import { csvDelimiterOf, linesOfCsv } from './csv-lines.js';

export interface TextOptions {
  columns: ColumnChoice;
  /** The longest record of CSV, in bytes. */
  maxLineBytes: number;
  /** Called once, when a record of CSV is found to be long. What it throws ends the reading. */
  onLongRecord?(): void;
}

/** Bytes in which the end of the first line is looked for. */
const MAX_HEAD_BYTES = 2 ** 16;

/**
 * The rows of a text file as JSON, one line each: those of a JSON array or of CSV. JSONL passes as it is, and so does what is none of them.
 *
 * The lines throw ProductError `invalid_dataset` for a damaged array or CSV; errors of `chunks`.
 */
export async function* linesOfText(
  chunks: AsyncIterable<Buffer>,
  { columns, maxLineBytes, onLongRecord }: TextOptions,
): AsyncGenerator<Buffer> {
  const text = await withHead(chunks, (head) => head.length >= MAX_HEAD_BYTES || /[\r\n]/.test(startOf(head)));
  const [firstLine = ''] = startOf(text.head).split(/[\r\n]/, 1);
  const names = typeof columns === 'object' ? [...columns.values()] : undefined;
  const delimiter = /^[[{]/.test(firstLine)
    ? undefined
    : csvDelimiterOf(firstLine, (name) => names?.includes(name) ?? isRowColumn(name));
  if (delimiter === undefined) yield* linesOfArray(text.chunks);
  else yield* linesOfCsv(text.chunks, { delimiter, columns, maxRecordBytes: maxLineBytes, onLongRecord });
}

/** The text from its first character that is not white space. A byte order mark counts as white space. */
function startOf(head: Buffer): string {
  return head.toString().trimStart();
}
