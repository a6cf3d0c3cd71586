/** Thrown when the bytes end within a value. Read more of the file and try again. */
export class OutOfBytes extends Error {}

/** Reads consecutive little-endian values. It checks every read against the available bytes. */
export class ByteCursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  uint8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  int8(): number {
    return this.#view.getInt8(this.#advance(1));
  }

  uint16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  int16(): number {
    return this.#view.getInt16(this.#advance(2), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  uint64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  int64(): bigint {
    return this.#view.getBigInt64(this.#advance(8), true);
  }

  float32(): number {
    return this.#view.getFloat32(this.#advance(4), true);
  }

  float64(): number {
    return this.#view.getFloat64(this.#advance(8), true);
  }

  /** @throws TypeError when the bytes are not UTF-8 */
  text(byteLength: number): string {
    const start = this.#advance(byteLength);
    return this.#decoder.decode(this.#bytes.subarray(start, start + byteLength));
  }

  #advance(byteLength: number): number {
    const start = this.offset;
    if (start + byteLength > this.#bytes.byteLength) throw new OutOfBytes();
    this.offset = start + byteLength;
    return start;
  }
}
