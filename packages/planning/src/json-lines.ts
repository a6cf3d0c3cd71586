import { isUtf8 } from 'node:buffer';
import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { nestsDeeperThan, ProductError } from '@lorasmith/contracts';
import { parseWithWholeFloats, WholeFloat } from '@lorasmith/model-folder';
import type { CodedFault } from './fault-list.js';

/** A longer line of a dataset is not read; an upload may have a lower limit. */
export const MAX_LINE_BYTES = 16 * 2 ** 20;

export const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = '\ufeff';

/** A line without its end; `bytes` is null when it was longer than allowed, and then its bytes were not kept. */
export interface Line {
  /** Line number, from 1. */
  number: number;
  bytes: Buffer | null;
}

const VISIBLE = /\S/;

const NOTHING = Buffer.alloc(0);

/** Cuts a stream of bytes into lines and keeps at most one line of it. */
export class LineSplitter {
  readonly #maxLineBytes: number;
  /** A copy of the beginning of a line, with free space behind it: a list of tiny chunks takes a hundred times their bytes. */
  #begun: Buffer = NOTHING;
  /** Bytes of the begun line, which is not kept once it is too long. */
  #begunBytes = 0;
  #lines: number;

  /** @param linesBefore - Lines of the file before the first byte. */
  constructor(maxLineBytes: number, linesBefore = 0) {
    this.#maxLineBytes = maxLineBytes;
    this.#lines = linesBefore;
  }

  /** Lines of the file that have ended. */
  get lines(): number {
    return this.#lines;
  }

  /** The lines that end in this chunk; empty ones are only counted, since a file may be nothing else. */
  *push(chunk: Buffer): Generator<Line> {
    let start = 0;
    for (;;) {
      for (; chunk[start] === NEWLINE && this.#begunBytes === 0; start++) this.#lines++;
      const end = chunk.indexOf(NEWLINE, start);
      if (end === -1) break;
      yield this.#finishLine(chunk.subarray(start, end));
      start = end + 1;
    }
    this.#keep(chunk.subarray(start));
  }

  /** The last line, when the stream did not end with a newline. */
  *end(): Generator<Line> {
    if (this.#begunBytes > 0) yield this.#finishLine(NOTHING);
  }

  #keep(part: Buffer): void {
    const bytes = this.#begunBytes + part.length;
    if (bytes > this.#maxLineBytes) this.#begun = NOTHING;
    else {
      if (bytes > this.#begun.length) {
        const larger = Buffer.allocUnsafe(Math.min(Math.max(bytes, 2 * this.#begun.length), this.#maxLineBytes));
        this.#begun.copy(larger, 0, 0, this.#begunBytes);
        this.#begun = larger;
      }
      part.copy(this.#begun, this.#begunBytes);
    }
    this.#begunBytes = bytes;
  }

  #finishLine(rest: Buffer): Line {
    const number = ++this.#lines;
    if (this.#begunBytes === 0) return { number, bytes: rest.length > this.#maxLineBytes ? null : rest };
    this.#keep(rest);
    const bytes = this.#begunBytes > this.#maxLineBytes ? null : this.#begun.subarray(0, this.#begunBytes);
    this.#begun = NOTHING;
    this.#begunBytes = 0;
    return { number, bytes };
  }
}

/**
 * The text of a line, empty if there is only white space. Only the first line of a file may begin with a byte order mark.
 * @returns null when it is not valid UTF-8
 */
export function textOfLine(number: number, bytes: Buffer): string | null {
  if (!isUtf8(bytes)) return null;
  const decoded = bytes.toString();
  const text = number === 1 && decoded.startsWith(BYTE_ORDER_MARK) ? decoded.slice(1) : decoded;
  return VISIBLE.test(text) ? text : '';
}

const BLOCK_BYTES = 2 ** 18;

/**
 * Reads a JSONL file as lists of its lines that are not empty. Besides a list, at most one line is in memory.
 *
 * @param options `hash`: updated with every byte that is read; `after`: only lines after this one are read
 * @throws ProductError `dataset_not_found` when there is no such file.
 */
export async function* readLines(
  path: string,
  { hash, after = 0 }: { hash?: Hash; after?: number } = {},
): AsyncGenerator<Line[]> {
  const splitter = new LineSplitter(MAX_LINE_BYTES, after);
  try {
    const start = after === 0 ? 0 : await endOfLine(path, after);
    for await (const block of blocksOf(path, start)) {
      hash?.update(block);
      yield [...splitter.push(block)];
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    const message = 'The rows of the dataset no longer exist. Upload it again.';
    throw new ProductError('dataset_not_found', message, { cause });
  }
  yield [...splitter.end()];
}

function blocksOf(path: string, start: number): AsyncIterable<Buffer> {
  return createReadStream(path, { start, highWaterMark: BLOCK_BYTES });
}

/** The position behind a line, or the end of the file if it has fewer. Much faster than making lines of the bytes. */
async function endOfLine(path: string, line: number): Promise<number> {
  let [position, lines] = [0, 0];
  for await (const block of blocksOf(path, 0)) {
    for (let end = block.indexOf(NEWLINE); end !== -1; end = block.indexOf(NEWLINE, end + 1)) {
      lines++;
      if (lines === line) return position + end + 1;
    }
    position += block.length;
  }
  return position;
}

/** A line of a JSONL file that is not blank: its value, or its fault. */
export type RawRow = { line: number; fault: null; value: unknown } | { line: number; fault: CodedFault };

/** The deepest valid rows have tools, whose parameters are JSON schemas. */
const MAX_DEPTH = 64;
/** Limits, for docs/limits.md. */
export const lineLimits = {
  nesting: { value: MAX_DEPTH, unit: 'levels', beyond: '422 `invalid_dataset`' },
};

/** @returns null for a blank line */
export function parseLine({ number: line, bytes }: Line, maxLineBytes = MAX_LINE_BYTES): RawRow | null {
  const refused = (code: CodedFault['code'], message: string) => ({ line, fault: { code, message } });
  if (bytes === null) return { line, fault: lineTooLong(maxLineBytes) };
  const text = textOfLine(line, bytes);
  if (text === null) return refused('invalid_dataset', 'The line is not valid UTF-8.');
  if (text === '') return null;
  if (nestsDeeperThan(MAX_DEPTH, text)) {
    return refused('invalid_dataset', `The line is nested deeper than ${MAX_DEPTH} levels.`);
  }
  try {
    return { line, fault: null, value: parsedRow(text) };
  } catch (error) {
    return refused('invalid_json', `The line is not JSON: ${(error as Error).message.slice(0, 200)}.`);
  }
}

/** Tools and their calls keep floats such as `1.0`, because templates print them. */
function parsedRow(text: string): unknown {
  if (!/"tool(?:s|_calls)"/.test(text)) return JSON.parse(text);
  const row = parseWithWholeFloats(text);
  makePlain(row);
  return row;
}

function makePlain(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, part] of Object.entries(value)) {
    if (part instanceof WholeFloat) (value as Record<string, unknown>)[key] = Number(part);
    else if (key !== 'tools' && key !== 'tool_calls') makePlain(part);
  }
}

export function lineTooLong(maxLineBytes: number): CodedFault {
  const message = `The line is longer than ${maxLineBytes} bytes, the limit. Put one row on each line.`;
  return { code: 'invalid_dataset', message };
}
