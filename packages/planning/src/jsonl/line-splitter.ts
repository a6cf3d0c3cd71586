import { isUtf8 } from 'node:buffer';

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

/** Cuts a stream of bytes into lines and holds at most one line of it. */
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
