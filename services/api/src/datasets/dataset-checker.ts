import { hash } from 'node:crypto';
import { type Dataset, type DatasetFormat, type Fault, fileHint, ProductError } from '@lorasmith/contracts';
import { checkRow, type Line, LineSplitter, lineTooLong, parseLine, textOfLine } from '@lorasmith/planning';
import { type ColumnMapping, mappedJson } from '@lorasmith/row-files';
import { MappingReport, mapRow } from './map-row.js';

export interface DatasetLimits {
  maxBytes: number;
  maxLineBytes: number;
  maxRows: number;
}

/** The properties of a valid dataset. */
export type DatasetSummary = Pick<Dataset, 'format' | 'rows' | 'features' | 'warnings'>;

/** Listed faults: enough to see what is wrong with a file. Later lines are not checked. */
const MAX_LISTED_FAULTS = 100;
/** Limits, for docs/limits.md. */
export const datasetCheckLimits = {
  faults: { value: MAX_LISTED_FAULTS, unit: 'faults', beyond: 'checking stops there' },
};

const TAB = 0x09;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;

const NEWLINE = Buffer.from('\n');
const NOTHING = Buffer.alloc(0);

/**
 * Checks the lines of a dataset while they arrive, maps rows of other tools, and leaves out columns that are not used. All other lines
 * are stored byte for byte.
 */
export class DatasetChecker {
  readonly #limits: DatasetLimits;
  readonly #columns: ColumnMapping | undefined;
  readonly #lines: LineSplitter;
  readonly #faults: Fault[] = [];
  #faultCount = 0;
  #faultyLines = 0;
  #rows = 0;
  /** True if all lines so far were blank. */
  #isFirst = true;
  /** The last line that is checked, once the limit of faults is reached. */
  #lastLine: number | undefined;
  /** True if there are further lines. */
  #hasMore = false;
  #first: { format: DatasetFormat; width: number | null; line: number } | undefined;
  readonly #seen = new SeenRows();
  #repeatedRows = 0;
  #firstRepeatedLine: number | undefined;
  readonly #mapping = new MappingReport();
  /** Lines that are in the bytes to store. */
  #storedLines = 0;

  /** @param columns - The columns of the file that rows have */
  constructor(limits: DatasetLimits, columns?: ColumnMapping) {
    this.#limits = limits;
    this.#columns = columns;
    this.#lines = new LineSplitter(limits.maxLineBytes);
  }

  /** True if there are faults, so that the bytes need not be stored. */
  get hasFaults(): boolean {
    return this.#faultCount > 0;
  }

  /** True if the rest of the file changes nothing: there are too many faults, and further lines. */
  get isDecided(): boolean {
    return this.#lastLine !== undefined && this.#hasMore;
  }

  /** Checks the next bytes. @returns the bytes to store, none once there is a fault */
  push(chunk: Buffer): Buffer {
    if (this.#lastLine === undefined) return this.#checkAll(this.#lines.push(chunk));
    this.#hasMore ||= chunk.length > 0;
    return NOTHING;
  }

  /** Call this after the last byte. @returns the bytes to store of a last line without an end */
  end(): Buffer {
    const stored = this.#checkAll(this.#lines.end());
    return stored.length === 0 ? stored : stored.subarray(0, -1);
  }

  /**
   * Call this after {@link end}.
   * @throws ProductError `invalid_dataset` with up to 100 faults in `details`; `dataset_empty`
   */
  finish(): DatasetSummary {
    if (this.#faultCount > 0) throw this.#invalid();
    if (this.#first === undefined) {
      throw new ProductError('dataset_empty', 'The file has no rows. Send one JSON object per line.');
    }
    const { format, width } = this.#first;
    const warnings = [...this.#mapping.warnings(), ...this.#repetitionWarnings()];
    return { format, rows: this.#rows, features: width, warnings };
  }

  #checkAll(lines: Iterable<Line>): Buffer {
    const stored: Buffer[] = [];
    for (const line of lines) {
      if (this.#lastLine !== undefined) {
        this.#hasMore = true;
        return NOTHING;
      }
      const checked = this.#check(line);
      if (Array.isArray(checked)) this.#list(line.number, checked);
      else if (!this.hasFaults) {
        stored.push(...this.#emptyLinesBefore(line.number), checked, NEWLINE);
        this.#storedLines = line.number;
      }
    }
    if (this.hasFaults) return NOTHING;
    stored.push(...this.#emptyLinesBefore(this.#lines.lines + 1));
    this.#storedLines = this.#lines.lines;
    return Buffer.concat(stored);
  }

  /** The line breaks of empty lines, which the splitter only counts. */
  #emptyLinesBefore(line: number): Buffer[] {
    const empty = line - this.#storedLines - 1;
    return empty === 0 ? [] : [Buffer.alloc(empty, NEWLINE)];
  }

  #list(line: number, faults: readonly Fault[]): void {
    this.#faultyLines++;
    this.#faultCount += faults.length;
    const remaining = MAX_LISTED_FAULTS - this.#faults.length;
    this.#faults.push(...faults.slice(0, remaining).map((fault) => ({ ...fault, line })));
    if (this.#faultCount >= MAX_LISTED_FAULTS) this.#lastLine = line;
  }

  /** Checks a line. @returns the line as it is stored, or its faults */
  #check({ number: line, bytes }: Line): Buffer | Fault[] {
    const { maxLineBytes } = this.#limits;
    if (bytes === null) return [lineTooLong(maxLineBytes)];
    const hint = this.#hintOf(line, bytes);
    if (hint !== undefined) {
      this.#lastLine = line;
      return [invalid(hint)];
    }
    const parsed = parseLine({ number: line, bytes }, maxLineBytes);
    if (parsed === null) return bytes;
    if (parsed.fault !== null) return [parsed.fault];
    const { value } = parsed;
    const mapped = mapRow(value, this.#columns);
    if (Array.isArray(mapped)) return mapped;
    const { format, row, faults } = checkRow(mapped.row);
    if (row === null) return faults;
    this.#rows++;
    if (this.#rows > this.#limits.maxRows) {
      this.#lastLine = line;
      return [invalid(`The file has more than ${this.#limits.maxRows} rows, the limit.`)];
    }
    const stored = mapped.row === value ? bytes : Buffer.from(mappedJson(row, textOfLine(line, bytes)!, this.#columns));
    if (stored.length > maxLineBytes) return [lineTooLong(maxLineBytes)];
    this.#mapping.add(line, mapped);
    this.#lookForRepetition(line, stored);
    const width = 'features' in row ? row.features.length : null;
    this.#first ??= { format, width, line };
    const difference = this.#difference(format, width);
    return difference === null ? stored : [difference];
  }

  /** A hint at the kind of file, if its first line that is not blank shows that it is no JSONL. */
  #hintOf(line: number, bytes: Buffer): string | undefined {
    const text = this.#isFirst ? textOfLine(line, bytes) : null;
    if (text === null || text === '') return undefined;
    this.#isFirst = false;
    return fileHint(text);
  }

  #difference(format: DatasetFormat, width: number | null): Fault | null {
    const first = this.#first!;
    if (format !== first.format) {
      const message = `The row has the format ${format}, but line ${first.line} has ${first.format}. All rows of a dataset must have the same format.`;
      return invalid(message);
    }
    if (width === first.width) return null;
    const message = `The row has ${width} features, but line ${first.line} has ${first.width}.`;
    return { ...invalid(message), param: 'features' };
  }

  #lookForRepetition(line: number, bytes: Buffer): void {
    if (!this.#seen.seen(rowOf(line, bytes))) return;
    this.#repeatedRows++;
    this.#firstRepeatedLine ??= line;
  }

  #repetitionWarnings(): Fault[] {
    if (this.#firstRepeatedLine === undefined) return [];
    const message =
      this.#repeatedRows === 1
        ? 'One row is the same as an earlier one.'
        : `${this.#repeatedRows} rows are the same as an earlier one; this is the first of them.`;
    return [{ code: 'duplicate_rows', message, line: this.#firstRepeatedLine }];
  }

  #invalid(): ProductError {
    const details = this.#faults;
    const lines = this.#faultyLines === 1 ? 'one line is wrong' : `${this.#faultyLines} lines are wrong`;
    const counted = this.#hasMore ? `at least ${lines}` : lines;
    const listed =
      this.#faultCount > details.length ? `; the first ${details.length} of ${this.#faultCount} faults are listed` : '';
    const rest = this.#hasMore ? `; checking stopped after line ${this.#lastLine}` : '';
    const message = `${counted}${listed}${rest}. Nothing was stored.`;
    return new ProductError('invalid_dataset', message[0]!.toUpperCase() + message.slice(1), { details });
  }
}

/** The JSON of a valid row, without white space around it and the byte order mark of a file. */
function rowOf(line: number, bytes: Buffer): Buffer {
  let start = line === 1 && bytes[0] === 0xef ? 3 : 0;
  let end = bytes.length;
  while (isSpace(bytes[start]!)) start++;
  while (isSpace(bytes[end - 1]!)) end--;
  return start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
}

function isSpace(byte: number): boolean {
  return byte === SPACE || (byte >= TAB && byte <= CARRIAGE_RETURN);
}

function invalid(message: string): Fault {
  return { code: 'invalid_dataset', message };
}

/** Passes chunks of an upload on. Says of a file that cannot be read that nothing was stored. */
export async function* orNothingStored(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* chunks;
  } catch (error) {
    if (!(error instanceof ProductError) || error.code !== 'invalid_dataset') throw error;
    const { code, message, param, details } = error;
    throw new ProductError(code, `${message} Nothing was stored.`, { param, details, cause: error });
  }
}

/** Maximum stored rows. In a larger dataset, only repetitions of these first rows are found. */
export const MAX_REMEMBERED_ROWS = 200_000;
/** The number of slots. At most two fifths are used, so that a free slot is near. */
const SLOTS = 2 ** 19;

/** Recognizes repeated rows by 64 bits of their digest, in 4 MB for any number of rows. */
export class SeenRows {
  /** Two 32-bit halves of a digest per slot; a free slot has two zeros. */
  readonly #digests = new Uint32Array(2 * SLOTS);
  #count = 0;

  /** Remembers a row. @returns true if it is a repetition */
  seen(row: Uint8Array): boolean {
    // In one call, and as a string of bytes: a Hash and a Buffer for each row take longer than the digest.
    const digest = hash('sha1', row, 'binary');
    const first = halfOf(digest, 0);
    const second = halfOf(digest, 4) || 1;
    for (let slot = first % SLOTS; ; slot = (slot + 1) % SLOTS) {
      const known = this.#digests[2 * slot + 1];
      if (known === 0) {
        if (this.#count === MAX_REMEMBERED_ROWS) return false;
        this.#digests[2 * slot] = first;
        this.#digests[2 * slot + 1] = second;
        this.#count++;
        return false;
      }
      if (known === second && this.#digests[2 * slot] === first) return true;
    }
  }
}

function halfOf(digest: string, at: number): number {
  const [a, b] = [digest.charCodeAt(at), digest.charCodeAt(at + 1)];
  const [c, d] = [digest.charCodeAt(at + 2), digest.charCodeAt(at + 3)];
  return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
}
