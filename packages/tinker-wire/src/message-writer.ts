import { WIRE } from './message-reader.js';

/** A writer of one message. The bytes that it is given are copied by `finish` alone, so they must not change before. */
export class MessageWriter {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;

  /** Write an int32, int64, bool or enum. */
  integer(field: number, value: number): this {
    return this.#push(varint(field * 8 + WIRE.varint)).#push(varint(value));
  }

  /** Write a repeated integer, packed. */
  integers(field: number, values: readonly number[]): this {
    return values.length === 0
      ? this
      : this.bytes(field, Uint8Array.from(values.flatMap((value) => [...varint(value)])));
  }

  double(field: number, value: number): this {
    return this.#push(varint(field * 8 + WIRE.fixed64)).#push(bytesOf(Float64Array.of(value)));
  }

  bytes(field: number, bytes: Uint8Array): this {
    return this.#push(varint(field * 8 + WIRE.bytes))
      .#push(varint(bytes.length))
      .#push(bytes);
  }

  text(field: number, text: string): this {
    return this.bytes(field, new TextEncoder().encode(text));
  }

  message(field: number, message: MessageWriter): this {
    this.#push(varint(field * 8 + WIRE.bytes)).#push(varint(message.#length));
    for (const chunk of message.#chunks) this.#push(chunk);
    return this;
  }

  finish(): Uint8Array {
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }

  #push(chunk: Uint8Array): this {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    return this;
  }
}

/** The bytes of a typed array, which share its memory. */
export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** @param value a safe integer; a negative one has ten bytes */
function varint(value: number): Uint8Array {
  if (value >= 0 && value < 0x80) return Uint8Array.of(value);
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
