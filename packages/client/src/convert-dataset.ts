import { createReadStream, createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { ProductError } from '@lorasmith/contracts';
import {
  type ColumnChoice,
  type ColumnMapping,
  linesOfFile,
  linesOfParquet,
  mapColumns,
  mappedJson,
  unzstd,
} from '@lorasmith/row-files';
import { refuseExisting } from './resumable-download.js';

export interface ConvertDatasetOptions {
  /** The columns that the rows get; undefined: all of the file. */
  mapping?: ColumnMapping | undefined;
  /** True to replace an existing file. @defaultValue false */
  overwrite?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** The result of a conversion. */
export interface ConvertedDataset {
  rows: number;
  /** The changes of the columns as text; null if none has another name. */
  mapping: string | null;
  /** Names of the columns that were left out. */
  leftOut: string[];
}

const NEWLINE = 0x0a;

/**
 * Writes the rows of a file as JSONL: a JSON array, CSV, Parquet or JSONL, also compressed with gzip or zstd. The file is never visible
 * incomplete.
 *
 * @throws ProductError `invalid_dataset` for a file that cannot be read; `conflict` when the destination exists
 */
export async function convertDataset(
  source: string,
  destination: string,
  { mapping, overwrite = false, signal }: ConvertDatasetOptions = {},
): Promise<ConvertedDataset> {
  await refuseExisting(destination, overwrite);
  const incomplete = `${destination}.incomplete`;
  const conversion = new Conversion(mapping);
  try {
    await pipeline(conversion.rows(rowLinesOf(source, mapping ?? 'all')), createWriteStream(incomplete), { signal });
    await rename(incomplete, destination);
  } finally {
    await rm(incomplete, { force: true });
  }
  return conversion.result();
}

class Conversion {
  readonly #mapping: ColumnMapping | undefined;
  #rows = 0;
  #change: string | null = null;
  readonly #leftOut = new Set<string>();

  constructor(mapping: ColumnMapping | undefined) {
    this.#mapping = mapping;
  }

  /** The rows in lines of their own. @throws ProductError `invalid_dataset` with the line of a row that is none */
  async *rows(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
    let number = 0;
    for await (const line of linesOf(chunks)) {
      number++;
      const text = line.toString().trim();
      if (text === '') continue;
      yield `${this.#row(text, number)}\n`;
      this.#rows++;
    }
  }

  result(): ConvertedDataset {
    return { rows: this.#rows, mapping: this.#change, leftOut: [...this.#leftOut] };
  }

  #row(text: string, line: number): string {
    const row = rowOf(text, line);
    if (this.#mapping === undefined) return text;
    const mapped = mapColumns(row, this.#mapping);
    if (Array.isArray(mapped)) throw wrongLine(line, mapped[0]!.message);
    this.#change ??= mapped.mapping;
    for (const name of mapped.leftOut) this.#leftOut.add(name);
    return mappedJson(mapped.row, text, this.#mapping);
  }
}

function rowOf(text: string, line: number): Record<string, unknown> {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch (error) {
    throw wrongLine(line, `It is not JSON: ${(error as Error).message.slice(0, 200)}.`);
  }
  if (typeof row === 'object' && row !== null && !Array.isArray(row)) return row as Record<string, unknown>;
  throw wrongLine(line, 'A row is an object.');
}

function wrongLine(line: number, what: string): ProductError {
  return new ProductError('invalid_dataset', `Line ${line} is wrong. ${what}`);
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      yield Buffer.concat([...parts, chunk.subarray(start, end)]);
      parts = [];
      start = end + 1;
    }
    if (start < chunk.length) parts.push(chunk.subarray(start));
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}

const MAX_LINE_BYTES = 2 ** 26;

/**
 * The rows of a file as JSONL: of a JSON array, CSV, Parquet or JSONL, also compressed with gzip or zstd.
 * @throws ProductError `invalid_request` if there is no file; `invalid_dataset` for one that cannot be read
 */
export async function* rowLinesOf(source: string, columns: ColumnChoice): AsyncGenerator<Buffer> {
  const file = await open(source).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${source}: ${cause.message}`, { param: 'file', cause });
  });
  try {
    yield* linesOfFile(createReadStream(source), {
      columns,
      maxBytes: Number.POSITIVE_INFINITY,
      maxLineBytes: MAX_LINE_BYTES,
      unzstd,
      linesOfParquet: () => linesOfParquet(file, { columns, maxRows: Number.POSITIVE_INFINITY }),
    });
  } finally {
    await file.close();
  }
}
