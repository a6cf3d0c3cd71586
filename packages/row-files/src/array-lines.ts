import { ProductError } from '@lorasmith/contracts';

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
