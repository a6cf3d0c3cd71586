import type { FileHandle } from 'node:fs/promises';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { ProductError } from '@lorasmith/contracts';
import { decompress } from 'fzstd';
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaTree,
  snappyUncompress,
} from 'hyparquet';
import { type ColumnChoice, columnsToRead } from './column-mapping.js';
import {
  jsonObject,
  jsonOfColumn,
  ParquetValueError,
  STORED_VALUES,
  type ValueJson,
  withStoredValues,
} from './parquet-values.js';
import { unpackLz4Block, unpackLz4Page } from './unpack-lz4.js';

export interface ParquetOptions {
  columns: ColumnChoice;
  maxRows: number;
}

/** The largest page, unpacked. Writers make pages of 1 MB. */
const MAX_PAGE_BYTES = 2 ** 28;
/** The largest row group, unpacked: it is held as a whole. */
const MAX_GROUP_BYTES = 2 ** 28;
/** Limits, for docs/limits.md. */
export const parquetLimits = {
  rowGroup: { value: MAX_GROUP_BYTES, unit: 'bytes', beyond: '422 `invalid_dataset`' },
};

const SMALLER_GROUPS =
  'Write it with smaller row groups (pandas: to_parquet(FILE, row_group_size=10000)), or send JSONL.';

/**
 * The rows of a Parquet file as JSON, one line each, with the columns that are read. The first row names the other columns, too. Null becomes
 * an absent key, because Parquet has no other form of that. Values are exact; a column with one that JSON has no form for is refused.
 *
 * A file may be made to need any time and memory: read files of others in a bounded process.
 *
 * The lines throw ProductError `invalid_dataset` for a damaged file, for one without a column of a row, and beyond the limits.
 */
export async function* linesOfParquet(
  file: FileHandle,
  { columns: choice, maxRows }: ParquetOptions,
): AsyncGenerator<Buffer> {
  const buffer = await bufferOf(file);
  const metadata = await orDamaged(() => parquetMetadataAsync(buffer, { geoparquet: false }));
  if (metadata.num_rows > maxRows) throw refused(`It has more than ${maxRows} rows, the limit.`);
  const tree = await orDamaged(async () => parquetSchema(metadata));
  const names = tree.children.map(({ element }) => element.name);
  refuseOtherCodecs(metadata);
  const columns = columnsToRead(names, choice, 'Parquet');
  const readers = await orDamaged(async () => columns.map((name) => columnReader(tree, name)));
  const others = names.filter((name) => !columns.includes(name)).map((name) => [name, 'null'] as const);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    if (group.total_byte_size > MAX_GROUP_BYTES) {
      throw refused(`It has a row group of over ${MAX_GROUP_BYTES} bytes, the limit. ${SMALLER_GROUPS}`);
    }
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await orDamaged(() => readRows(buffer, metadata, { columns, rowStart, rowEnd }));
    for (const [index, row] of rows.entries()) {
      const line = rowStart + index + 1;
      const members = readers.map(({ name, jsonIn }) => [name, jsonIn(row[name], line)] as const);
      yield Buffer.from(`${jsonObject(line === 1 ? [...others, ...members] : members)}\n`);
    }
    rowStart = rowEnd;
  }
}

interface RowRange {
  columns: string[];
  rowStart: number;
  rowEnd: number;
}

async function readRows(
  file: AsyncBuffer,
  metadata: FileMetaData,
  range: RowRange,
): Promise<Record<string, unknown>[]> {
  const options = { compressors: COMPRESSORS, geoparquet: false, utf8: false, parsers: STORED_VALUES };
  return await parquetReadObjects({ file, metadata: withStoredValues(metadata), ...range, ...options });
}

interface ColumnReader {
  name: string;
  /** The JSON of the value of a row. @throws ProductError `invalid_dataset` */
  jsonIn(value: unknown, row: number): string | undefined;
}

/** @throws ProductError `invalid_dataset` */
function columnReader({ children }: SchemaTree, name: string): ColumnReader {
  const within = <Result>(read: () => Result, where = ''): Result => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof ParquetValueError)) throw damaged(error);
      const what = `Its column ${JSON.stringify(name.slice(0, 64))} has ${error.message}${where}, which has no exact form in JSON.`;
      throw refused(`${what} Write the column as text, or leave it out.`);
    }
  };
  const json: ValueJson = within(() => jsonOfColumn(children.find(({ element }) => element.name === name)!));
  return { name, jsonIn: (value, row) => within(() => json(value), ` in row ${row}`) };
}

const COMPRESSORS: Compressors = {
  SNAPPY: checked((input, bytes) => {
    const output = new Uint8Array(bytes);
    snappyUncompress(input, output);
    return output;
  }),
  GZIP: checked((input, maxOutputLength) => gunzipSync(input, { maxOutputLength })),
  BROTLI: checked((input, maxOutputLength) => brotliDecompressSync(input, { maxOutputLength })),
  LZ4: checked(unpackLz4Page),
  LZ4_RAW: checked(unpackLz4Block),
  ZSTD: checked((input, bytes) => decompress(input, new Uint8Array(bytes))),
};

/** @throws ProductError `invalid_dataset` */
function refuseOtherCodecs({ row_groups }: FileMetaData): void {
  const codecs = row_groups.flatMap(({ columns }) => columns.map(({ meta_data }) => meta_data?.codec));
  const other = codecs.find((codec) => codec !== undefined && codec !== 'UNCOMPRESSED' && !(codec in COMPRESSORS));
  if (other === undefined) return;
  throw refused(`It is compressed with ${other}, which is not read. Write it with compression="zstd", or send JSONL.`);
}

function checked(unpack: (input: Uint8Array, bytes: number) => Uint8Array): NonNullable<Compressors['SNAPPY']> {
  return (input, bytes) => {
    if (bytes > MAX_PAGE_BYTES) throw refused(`It has a page of over ${MAX_PAGE_BYTES} bytes, the limit.`);
    // The dictionary of a column without values. zlib takes no limit of 0.
    return bytes === 0 ? new Uint8Array(0) : unpack(input, bytes);
  };
}

/** Reads of a file, none beyond its end. */
async function bufferOf(file: FileHandle): Promise<AsyncBuffer> {
  const { size } = await file.stat();
  return {
    byteLength: size,
    async slice(start, end = size) {
      const length = Math.min(end, size) - start;
      if (!(start >= 0 && length >= 0)) throw new Error(`a part from ${start} to ${end}`);
      const bytes = new ArrayBuffer(length);
      await file.read(new Uint8Array(bytes), 0, length, start);
      return bytes;
    },
  };
}

async function orDamaged<Result>(read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    throw error instanceof ProductError ? error : damaged(error);
  }
}

function damaged(error: unknown): ProductError {
  return refused(`It is damaged or incomplete (${(error as Error).message.slice(0, 200)}).`, error);
}

function refused(what: string, cause?: unknown): ProductError {
  const message = `The Parquet file cannot be read. ${what}`;
  return new ProductError('invalid_dataset', message, { cause });
}
