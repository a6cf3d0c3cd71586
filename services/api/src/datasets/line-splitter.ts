const NEWLINE = 0x0a;

/** A line without its end; `bytes` is null when it was longer than allowed, and then its bytes were not kept. */
export interface Line {
  /** From 1. */
  number: number;
  bytes: Buffer | null;
}

/** Cuts a stream of bytes into lines and holds at most one line of it. */
export class LineSplitter {
  readonly #maxLineBytes: number;
  #parts: Buffer[] = [];
  #partsBytes = 0;
  #lines = 0;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  /** The lines that end in this chunk. */
  *push(chunk: Buffer): Generator<Line> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#take(chunk.subarray(start, end));
      yield this.#finishLine();
      start = end + 1;
    }
    this.#take(chunk.subarray(start));
  }

  /** The last line, when the stream did not end with a newline. */
  *end(): Generator<Line> {
    if (this.#partsBytes > 0) yield this.#finishLine();
  }

  #take(part: Buffer): void {
    if (part.length === 0) return;
    this.#partsBytes += part.length;
    if (this.#partsBytes <= this.#maxLineBytes) this.#parts.push(part);
    else this.#parts = [];
  }

  #finishLine(): Line {
    const isTooLong = this.#partsBytes > this.#maxLineBytes;
    const bytes = isTooLong ? null : this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#partsBytes = 0;
    return { number: ++this.#lines, bytes };
  }
}
