import { isUtf8 } from 'node:buffer';
import type { TransformOptions } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ProductError } from '@lorasmith/contracts';
import { CsvError, type Options, parse } from 'csv-parse';
import { withHead } from './chunk-head.js';
import { type ColumnChoice, columnsToRead, sourceOf } from './column-mapping.js';
import { jsonLine } from './json-line.js';

export interface CsvOptions {
  delimiter: string;
  columns: ColumnChoice;
  /** The longest record, in bytes. */
  maxRecordBytes: number;
  /** Called once, when a record is longer than {@link LONG_RECORD_BYTES}. What it throws ends the reading. */
  onLongRecord?: (() => void) | undefined;
}

/** Columns of rows whose values are not text. Their cells have JSON. */
const JSON_COLUMNS = ['messages', 'conversations', 'tools', 'parallel_tool_calls', 'features', 'label'];
/** A longer record takes memory that counts where many files are read at once. */
const LONG_RECORD_BYTES = 2 ** 20;
/** A cell takes a hundred times the memory of its delimiter. */
const MAX_COLUMNS = 10_000;
/** Limits, for docs/limits.md. */
export const csvLimits = {
  columns: { value: MAX_COLUMNS, unit: 'columns', beyond: '422 `invalid_dataset`' },
  longRecord: { value: LONG_RECORD_BYTES, unit: 'bytes', beyond: 'few such files are read at once' },
};
const DELIMITERS = [',', ';', '\t'];
const BYTE_ORDER_MARK = Buffer.from('\ufeff');
const NEWLINE = Buffer.from('\n');
const QUOTE = 0x22;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * The delimiter of a CSV file by its first line; undefined for a file that is not CSV: its first line has one cell, which is no name of
 * `isColumn`.
 */
export function csvDelimiterOf(firstLine: string, isColumn: (name: string) => boolean): string | undefined {
  const outsideQuotes = firstLine.replaceAll(/"[^"]*"/g, '');
  const counts = DELIMITERS.map((delimiter) => outsideQuotes.split(delimiter).length - 1);
  const most = Math.max(...counts);
  if (most > 0) return DELIMITERS[counts.indexOf(most)];
  return isColumn(firstLine.trim().replaceAll('"', '')) ? DELIMITERS[0] : undefined;
}

/**
 * The records of a CSV file as JSON, one line each, with the columns that are read. The first row names the other columns, too: they would
 * make every row as long as the header. Its header and empty records become empty lines, so the number of a line is that of the row in a spreadsheet.
 *
 * The lines throw ProductError `invalid_dataset` for what is not CSV or not UTF-8; errors of `chunks`.
 */
export async function* linesOfCsv(
  chunks: AsyncIterable<Buffer>,
  { delimiter, columns, maxRecordBytes, onLongRecord }: CsvOptions,
): AsyncGenerator<Buffer> {
  const options: Options & Pick<TransformOptions, 'readableHighWaterMark'> = {
    delimiter,
    // Cells are checked to be UTF-8 before they become text.
    encoding: null,
    // The same as those of the bounds.
    record_delimiter: ['\r\n', '\n', '\r'],
    relax_column_count: true,
    // Records of one chunk at a time, which may each be long.
    readableHighWaterMark: 1,
  };
  const parser = parse(options);
  // An error of the chunks destroys `parser` with it, so it is thrown below.
  pipeline(
    checkedBy(new RecordBounds({ delimiter, maxBytes: maxRecordBytes, onLong: onLongRecord }), withoutMark(chunks)),
    parser,
  ).catch(() => {});
  let header: Header | undefined;
  let row = 0;
  try {
    for await (const cells of parser as AsyncIterable<Buffer[]>) {
      row++;
      if (cells.length === 1 && cells[0]?.length === 0) yield NEWLINE;
      else if (header !== undefined) {
        yield lineOf(cells, header, row);
        header.others = {};
      } else {
        header = headerOf(cells, columns);
        yield NEWLINE;
      }
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    // Records before it that were not read yet are lost.
    throw wrongCsv(Number(error.records ?? row) + 1, faultText(error));
  }
}

/**
 * The bounds of records: the parser has none for their number of cells, and one of their length that does not count cells of bytes. It
 * sees where records end in a file that is CSV; the parser refuses another one.
 */
class RecordBounds {
  readonly #delimiter: number;
  readonly #maxBytes: number;
  #onLong: () => void;
  #isQuoted = false;
  #cells = 1;
  #bytes = 0;
  #row = 1;
  #last = 0;

  constructor({
    delimiter,
    maxBytes,
    onLong = () => {},
  }: { delimiter: string; maxBytes: number; onLong?: (() => void) | undefined }) {
    this.#delimiter = delimiter.charCodeAt(0);
    this.#maxBytes = maxBytes;
    this.#onLong = onLong;
  }

  /** @throws ProductError `invalid_dataset`; errors of `onLong` */
  check(chunk: Buffer): void {
    for (const byte of chunk) {
      if (byte === QUOTE) this.#isQuoted = !this.#isQuoted;
      else if (!this.#isQuoted && byte === this.#delimiter) this.#cells++;
      else if (!this.#isQuoted && (byte === LINE_FEED || byte === CARRIAGE_RETURN)) this.#endRecord(byte);
      this.#last = byte;
      this.#bytes++;
      if (this.#cells > MAX_COLUMNS) {
        throw wrongCsv(this.#row, `It has more than ${MAX_COLUMNS} cells, the limit.`);
      }
      if (this.#bytes > LONG_RECORD_BYTES) this.#reportLong();
      if (this.#bytes > this.#maxBytes) {
        throw wrongCsv(this.#row, `It is longer than ${this.#maxBytes} bytes, the limit.`);
      }
    }
  }

  #reportLong(): void {
    const report = this.#onLong;
    this.#onLong = () => {};
    report();
  }

  #endRecord(byte: number): void {
    if (byte === CARRIAGE_RETURN || this.#last !== CARRIAGE_RETURN) this.#row++;
    this.#cells = 1;
    this.#bytes = 0;
  }
}

async function* checkedBy(bounds: RecordBounds, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    bounds.check(chunk);
    yield chunk;
  }
}

/** The bytes after a byte order mark. The parser's own option for it makes text of the cells. */
async function* withoutMark(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const file = await withHead(chunks, ({ length }) => length >= BYTE_ORDER_MARK.length);
  let skipped = file.head.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK.length : 0;
  for await (const chunk of file.chunks) {
    yield chunk.subarray(skipped);
    skipped = 0;
  }
}

function faultText({ code, message }: CsvError): string {
  switch (code) {
    case 'CSV_QUOTE_NOT_CLOSED':
      return 'A quote has no end.';
    case 'INVALID_OPENING_QUOTE':
      return `A cell has a quote, but does not begin with one. ${QUOTES}`;
    case 'CSV_INVALID_CLOSING_QUOTE':
      return `There is something after the last quote of a cell. ${QUOTES}`;
    default:
      return `${message.slice(0, 200)}.`;
  }
}

const QUOTES = 'Put the cell into quotes, and write each quote in it twice.';

interface Header {
  width: number;
  /** The columns that are read, and where their cells are. */
  columns: readonly { name: string; index: number; isJson: boolean }[];
  /** The other columns, for the first row. */
  others: Readonly<Record<string, null>>;
}

/** @throws ProductError `invalid_dataset` */
function headerOf(cells: readonly Buffer[], choice: ColumnChoice): Header {
  const names = cells.map((cell) => textOf(cell, 1).trim());
  const seen = new Set<string>();
  const repeated = names.find((name) => name !== '' && seen.size === seen.add(name).size);
  if (repeated !== undefined) {
    throw wrongCsv(1, `Two columns have the name ${JSON.stringify(repeated.slice(0, 64))}.`);
  }
  const read = new Set(columnsToRead(names, choice, 'CSV'));
  const json = new Set(JSON_COLUMNS.map((column) => sourceOf(choice, column)));
  const columns = names.map((name, index) => ({ name, index, isJson: json.has(name) }));
  const others = names.filter((name) => !read.has(name)).map((name) => [name, null] as const);
  return {
    width: names.length,
    columns: columns.filter(({ name }) => read.has(name)),
    others: Object.fromEntries(others),
  };
}

/** @throws ProductError `invalid_dataset` */
function lineOf(cells: readonly Buffer[], { width, columns, others }: Header, row: number): Buffer {
  if (cells.length !== width) {
    const what = `The row has ${cells.length} cells, but the header has ${width}.`;
    throw wrongCsv(row, `${what} Put a cell with a comma, a quote or a line break into quotes.`);
  }
  const texts = cells.map((cell) => textOf(cell, row));
  const values = columns.flatMap(({ name, index, isJson }) => {
    const text = texts[index]!;
    if (!isJson) return [[name, JSON.stringify(text)] as const];
    return text === '' ? [] : [[name, jsonOr(text)] as const];
  });
  const nulls = Object.keys(others).map((name) => [name, 'null'] as const);
  const members = [...nulls, ...values].map(([name, json]) => `${JSON.stringify(name)}:${json}`);
  return Buffer.from(`{${members.join(',')}}\n`);
}

/** JSON in one line, as it is written, or the JSON of a text that is none, which the check of the row then refuses. */
function jsonOr(text: string): string {
  // As pandas writes booleans.
  if (text === 'True' || text === 'False') return text.toLowerCase();
  return jsonLine(text) ?? JSON.stringify(text);
}

function textOf(cell: Buffer, row: number): string {
  if (isUtf8(cell)) return cell.toString();
  throw wrongCsv(row, 'The row is not valid UTF-8. In a spreadsheet, save as "CSV UTF-8".');
}

function wrongCsv(row: number, what: string): ProductError {
  const message = `Row ${row} of the CSV file is wrong: ${what}`;
  return new ProductError('invalid_dataset', message, {
    details: [{ code: 'invalid_dataset', message: what, line: row }],
  });
}
