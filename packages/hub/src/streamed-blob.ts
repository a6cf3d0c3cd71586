/** The first and the last byte. */
export interface ByteSpan {
  start: number;
  end: number;
}

/** Bytes that are read from where they are, each time and only when they are needed. */
export type SpanReader = (span: ByteSpan) => Promise<AsyncIterable<Uint8Array>>;

/** A blob whose bytes are never in memory together, for the hub's client. */
export class StreamedBlob extends Blob {
  readonly #read: SpanReader;
  readonly #from: number;
  readonly #bytes: number;

  /** @param from - the position of its first byte, for `read` */
  constructor(read: SpanReader, bytes: number, from = 0) {
    super([]);
    this.#read = read;
    this.#from = from;
    this.#bytes = bytes;
    Object.defineProperty(this, 'size', { value: bytes });
  }

  override slice(start = 0, end = this.#bytes): Blob {
    const first = Math.min(start, this.#bytes);
    return new StreamedBlob(this.#read, Math.max(0, Math.min(end, this.#bytes) - first), this.#from + first);
  }

  override stream(): ReturnType<Blob['stream']> {
    return ReadableStream.from(this.#chunks()) as ReturnType<Blob['stream']>;
  }

  override async arrayBuffer(): Promise<ArrayBuffer> {
    const whole = new Uint8Array(this.#bytes);
    let position = 0;
    for await (const chunk of this.#chunks()) {
      whole.set(chunk, position);
      position += chunk.length;
    }
    return whole.buffer;
  }

  override async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  /** @throws Error if its source has more or fewer bytes */
  async *#chunks(): AsyncGenerator<Uint8Array> {
    if (this.#bytes === 0) return;
    let bytes = 0;
    for await (const chunk of await this.#read({ start: this.#from, end: this.#from + this.#bytes - 1 })) {
      bytes += chunk.length;
      if (bytes > this.#bytes) break;
      yield chunk;
    }
    if (bytes !== this.#bytes) throw new Error(`a file has other than the ${this.#bytes} bytes that it should have`);
  }
}
