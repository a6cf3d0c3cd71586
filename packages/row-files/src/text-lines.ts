import { ProductError } from '@lorasmith/contracts';
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

/** A stream of bytes whose beginning is known. */
export interface HeadedChunks {
  /** The first bytes, as far as they were asked for. */
  head: Buffer;
  /** All bytes. */
  chunks: AsyncGenerator<Buffer>;
}

/** Reads the beginning of a stream: until `isEnough`, or somewhat further, or to its end. */
export async function withHead(
  chunks: AsyncIterable<Buffer>,
  isEnough: (head: Buffer) => boolean,
): Promise<HeadedChunks> {
  const iterator = chunks[Symbol.asyncIterator]();
  const parts: Buffer[] = [];
  let length = 0;
  // The beginning is looked at when it has doubled, so that the time for many small chunks is not quadratic.
  for (let nextLook = 0; ; ) {
    if (length >= nextLook) {
      if (isEnough(Buffer.concat(parts))) break;
      nextLook = Math.max(1, 2 * length);
    }
    const next = await iterator.next();
    if (next.done) break;
    parts.push(next.value);
    length += next.value.length;
  }
  const head = Buffer.concat(parts);
  async function* all(): AsyncGenerator<Buffer> {
    try {
      if (head.length > 0) yield head;
      yield* { [Symbol.asyncIterator]: () => iterator };
    } finally {
      await iterator.return?.();
    }
  }
  return { head, chunks: all() };
}

const NEWLINE = 0x0a;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
/** A control character, which no text of JSON may have either. */
const NOT_IN_TEXT = 0x01;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/** Passes JSONL on as it is, and a JSON array with each element in one line. The array is never held as a whole. */
export async function* linesOfArray(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let array: ArrayLines | null | undefined;
  for await (const chunk of chunks) {
    let start = 0;
    if (array === undefined) {
      start = chunk.findIndex((byte) => !isBeforeRows(byte));
      if (start >= 0) array = chunk[start] === OPEN_ARRAY ? new ArrayLines() : null;
    }
    if (array && start > 0) yield chunk.subarray(0, start);
    yield array ? array.push(chunk.subarray(start)) : chunk;
  }
  array?.end();
}

function isBeforeRows(byte: number): boolean {
  return isSpace(byte) || BYTE_ORDER_MARK.includes(byte);
}

function isSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 0x09 && byte <= 0x0d);
}

/**
 * The elements of a JSON array as lines. It looks only for where elements end: whether they are JSON is checked line by line, so the line
 * of a fault is the number of its element.
 */
class ArrayLines {
  /** Brackets that are open: 1 between elements. */
  #depth = 0;
  #isInText = false;
  #isEscaped = false;
  #hasEnded = false;

  /** @throws ProductError `invalid_dataset` for something after the array */
  push(chunk: Buffer): Buffer {
    const lines = Buffer.allocUnsafe(chunk.length);
    let length = 0;
    for (const byte of chunk) lines[length++] = this.#isInText ? this.#inText(byte) : this.#outsideText(byte);
    return lines;
  }

  /** @throws ProductError `invalid_dataset` for an array that has not ended */
  end(): void {
    if (!this.#hasEnded) throw wrongArray('The JSON array has no end: the file is incomplete.');
  }

  #inText(byte: number): number {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) this.#isInText = false;
    return byte === NEWLINE ? NOT_IN_TEXT : byte;
  }

  #outsideText(byte: number): number {
    if (isSpace(byte)) return SPACE;
    if (this.#hasEnded) throw wrongArray('There is something after the end of the JSON array.');
    switch (byte) {
      case QUOTE:
        this.#isInText = true;
        return byte;
      case OPEN_ARRAY:
      case OPEN_OBJECT:
        return this.#depth++ === 0 ? SPACE : byte;
      case CLOSE_ARRAY:
        this.#hasEnded = --this.#depth === 0;
        return this.#hasEnded ? NEWLINE : byte;
      case CLOSE_OBJECT:
        if (this.#depth > 1) this.#depth--;
        return byte;
      case COMMA:
        return this.#depth === 1 ? NEWLINE : byte;
      default:
        return byte;
    }
  }
}

function wrongArray(message: string): ProductError {
  return new ProductError('invalid_dataset', message);
}
