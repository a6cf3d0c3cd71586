import { type Dataset, type DatasetFormat, type Fault, fileHint, ProductError } from '@lorasmith/contracts';
import { checkRow } from '@lorasmith/planning';
import { type Line, LineSplitter } from './line-splitter.js';
import { nestsDeeperThan } from './nesting-depth.js';
import { SeenRows } from './seen-rows.js';

export interface DatasetLimits {
  maxBytes: number;
  maxLineBytes: number;
  maxRows: number;
}

/** What the lines say of a dataset without faults. */
export type DatasetSummary = Pick<Dataset, 'format' | 'rows' | 'features' | 'warnings'>;

/** Enough to see what is wrong with a file; the rest is counted. */
const MAX_LISTED_FAULTS = 100;
/** Rows are objects of lists of objects; nothing deeper can be right. */
const MAX_DEPTH = 16;

/** Checks the lines of a dataset while they arrive. */
export class DatasetChecker {
  readonly #limits: DatasetLimits;
  readonly #lines: LineSplitter;
  readonly #faults: Fault[] = [];
  #faultCount = 0;
  #faultyLines = 0;
  #rows = 0;
  /** Set once by the first line that is not blank: whether the file has not one row a line. */
  #isOtherFile: boolean | undefined;
  #first: { format: DatasetFormat; width: number | null; line: number } | undefined;
  readonly #seen = new SeenRows();
  #repeatedRows = 0;
  #firstRepeatedLine: number | undefined;

  constructor(limits: DatasetLimits) {
    this.#limits = limits;
    this.#lines = new LineSplitter(limits.maxLineBytes);
  }

  /** Whether something is wrong already; then there is no use in keeping the bytes. */
  get hasFaults(): boolean {
    return this.#faultCount > 0;
  }

  push(chunk: Buffer): void {
    for (const line of this.#lines.push(chunk)) this.#check(line);
  }

  /**
   * Call it after the last byte.
   * @throws ProductError `invalid_dataset` with every bad line, up to 100, in `details`; `dataset_empty`
   */
  finish(): DatasetSummary {
    for (const line of this.#lines.end()) this.#check(line);
    if (this.#faultCount > 0) throw this.#invalid();
    if (this.#first === undefined) {
      throw new ProductError('dataset_empty', 'The file has no rows: give one JSON object per line.');
    }
    const { format, width } = this.#first;
    return { format, rows: this.#rows, features: width, warnings: this.#warnings() };
  }

  #check({ number, bytes }: Line): void {
    // Its other lines would tell nothing.
    if (this.#isOtherFile) return;
    const faults = bytes === null ? [this.#tooLong()] : this.#rowFaults(number, bytes);
    if (faults.length === 0) return;
    this.#faultyLines++;
    this.#faultCount += faults.length;
    const room = MAX_LISTED_FAULTS - this.#faults.length;
    this.#faults.push(...faults.slice(0, Math.max(room, 0)).map((fault) => ({ ...fault, line: number })));
  }

  #rowFaults(line: number, bytes: Buffer): Fault[] {
    let text: string;
    try {
      // A decoder made anew drops a byte order mark; only the file's first line may have one.
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: line > 1 }).decode(bytes);
    } catch {
      return [invalid('The line is not valid UTF-8.')];
    }
    if (text.trim() === '') return [];
    const hint = this.#isOtherFile === undefined ? fileHint(text) : undefined;
    this.#isOtherFile = hint !== undefined;
    if (hint !== undefined) return [invalid(hint)];
    if (nestsDeeperThan(MAX_DEPTH, bytes)) return [invalid(`The line nests deeper than ${MAX_DEPTH} levels.`)];
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return [{ ...invalid(`The line is not JSON: ${(error as Error).message.slice(0, 200)}.`), code: 'invalid_json' }];
    }
    const { format, row, faults } = checkRow(value);
    if (row === null) return faults;
    this.#rows++;
    if (this.#rows === this.#limits.maxRows + 1) return [invalid(`There are more than ${this.#limits.maxRows} rows.`)];
    this.#lookForRepetition(line, text);
    const width = 'features' in row ? row.features.length : null;
    this.#first ??= { format, width, line };
    return this.#differences(format, width);
  }

  #differences(format: DatasetFormat, width: number | null): Fault[] {
    const first = this.#first!;
    if (format !== first.format) {
      const message = `The row has the format ${format}, line ${first.line} has ${first.format}. All rows of a dataset have one format.`;
      return [invalid(message)];
    }
    if (width !== first.width) {
      return [{ ...invalid(`${width} features here, ${first.width} in line ${first.line}.`), param: 'features' }];
    }
    return [];
  }

  #lookForRepetition(line: number, text: string): void {
    if (!this.#seen.seen(text.trim())) return;
    this.#repeatedRows++;
    this.#firstRepeatedLine ??= line;
  }

  #warnings(): Fault[] {
    if (this.#firstRepeatedLine === undefined) return [];
    const message =
      this.#repeatedRows === 1
        ? 'One row is the same as an earlier one.'
        : `${this.#repeatedRows} rows are the same as an earlier one; this is the first of them.`;
    return [{ code: 'duplicate_rows', message, line: this.#firstRepeatedLine }];
  }

  #tooLong(): Fault {
    return invalid(`The line is longer than ${this.#limits.maxLineBytes} bytes. A file has one row a line.`);
  }

  #invalid(): ProductError {
    const lines = this.#faultyLines === 1 ? 'One line is wrong' : `${this.#faultyLines} lines are wrong`;
    const rest =
      this.#faultCount > this.#faults.length
        ? `; the first ${this.#faults.length} of ${this.#faultCount} faults are listed`
        : '';
    return new ProductError('invalid_dataset', `${lines}${rest}. Nothing was stored.`, { details: this.#faults });
  }
}

function invalid(message: string): Fault {
  return { code: 'invalid_dataset', message };
}
