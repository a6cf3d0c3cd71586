import { DATASET_FORMATS, DatasetRow } from '@lorasmith/contracts';
import { parquetMetadataAsync, parquetSchema } from 'hyparquet';

/** The first bytes of a file, in which its first row is. */
const HEAD_BYTES = 256 * 1024;
/** Columns beyond these are not offered. */
const MAX_COLUMNS = 200;
const GZIP = [0x1f, 0x8b];
const PARQUET = [0x50, 0x41, 0x52, 0x31];
const DELIMITERS = [',', ';', '\t'];
/** A column of other tools, which the service maps by itself. */
const SHAREGPT_COLUMN = 'conversations';

/**
 * The names of the columns of a file of rows: of CSV and Parquet its header, of JSON its first row.
 * @returns null for a file in which none are found; the service then says what is wrong with it
 */
export async function columnsOfFile(file: Blob): Promise<string[] | null> {
  try {
    const start = new Uint8Array(await file.slice(0, PARQUET.length).arrayBuffer());
    const begins = (mark: readonly number[]) => mark.every((byte, index) => start[index] === byte);
    const columns = begins(PARQUET) ? await columnsOfParquet(file) : columnsOfText(await headOf(file, begins(GZIP)));
    const named = columns?.filter((name) => name !== '').slice(0, MAX_COLUMNS) ?? [];
    return named.length === 0 ? null : named;
  } catch {
    return null;
  }
}

/** True if rows with these columns have a format that the service knows. */
export function areRowColumns(columns: readonly string[]): boolean {
  const has = (name: string) => columns.includes(name);
  const required = DATASET_FORMATS.map((format) => (DatasetRow[format] as { required?: string[] }).required ?? []);
  return has(SHAREGPT_COLUMN) || required.some((names) => names.every(has));
}

/** The first column whose name has one of the words; undefined if there is none. */
export function columnLike(columns: readonly string[], words: RegExp): string | undefined {
  return columns.find((name) => words.test(name));
}

/** The start of a text file. */
async function headOf(file: Blob, isGzip: boolean): Promise<string> {
  const head = file.slice(0, HEAD_BYTES);
  if (!isGzip) return await head.text();
  const decoder = new TextDecoder();
  let text = '';
  const reader = head.stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  try {
    while (text.length < HEAD_BYTES) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } catch {
    // The slice ends before the file does; what was unpacked until then is enough.
  } finally {
    reader.cancel().catch(() => {});
  }
  return text;
}

async function columnsOfParquet(file: Blob): Promise<string[]> {
  const slice = async (start: number, end?: number) => await file.slice(start, end).arrayBuffer();
  const metadata = await parquetMetadataAsync({ byteLength: file.size, slice }, { geoparquet: false });
  return parquetSchema(metadata).children.map(({ element }) => element.name);
}

function columnsOfText(head: string): string[] | null {
  const text = head.replace(/^\ufeff/, '').trimStart();
  if (text.startsWith('{') || text.startsWith('[')) return columnsOfJson(text);
  const line = firstRecord(text);
  const counts = DELIMITERS.map((delimiter) => cellsOf(line, delimiter).length);
  const most = Math.max(...counts);
  return most === 1 ? null : cellsOf(line, DELIMITERS[counts.indexOf(most)]!);
}

/** Closing braces at which the first object of a file is tried to end. */
const MAX_ENDS = 1000;

/** The keys of the first object, of JSONL or of a JSON array. */
function columnsOfJson(text: string): string[] | null {
  const start = text.indexOf('{');
  let end = start < 0 ? -1 : text.indexOf('}', start);
  for (let tries = 0; end >= 0 && tries < MAX_ENDS; tries++) {
    const row = objectOrNull(text.slice(start, end + 1));
    if (row !== null) return Object.keys(row);
    end = text.indexOf('}', end + 1);
  }
  return null;
}

function objectOrNull(text: string): object | null {
  try {
    return JSON.parse(text) as object;
  } catch {
    return null;
  }
}

/** The text up to the first line break outside of quotes. */
function firstRecord(text: string): string {
  let isQuoted = false;
  for (let index = 0; index < text.length; index++) {
    if (text[index] === '"') isQuoted = !isQuoted;
    else if (!isQuoted && (text[index] === '\n' || text[index] === '\r')) return text.slice(0, index);
  }
  return text;
}

function cellsOf(record: string, delimiter: string): string[] {
  const cells = [''];
  let isQuoted = false;
  for (const letter of record) {
    if (letter === '"') isQuoted = !isQuoted;
    if (letter === delimiter && !isQuoted) cells.push('');
    else cells[cells.length - 1] += letter;
  }
  return cells.map((cell) =>
    cell
      .trim()
      .replace(/^"(.*)"$/s, '$1')
      .replaceAll('""', '"'),
  );
}
