import { WireError } from './wire-error.js';

/** The wire types of protobuf that are read; groups (3, 4) are refused. */
export const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** The most bytes of a name or of an id. */
const MAX_TEXT_BYTES = 1000;

const decoder = new TextDecoder('utf-8', { fatal: true });

/** The fields that a message, and those in it, may have from now on. */
export interface FieldBudget {
  remaining: number;
}

/**
 * A reader of the fields of one message, one after another. Its caller reads or skips each field. Nothing is copied: bytes
 * of a field are a view of those of the message.
 *
 * https://protobuf.dev/programming-guides/encoding
 */
export class MessageReader {
  /** The number of the current field. */
  field = 0;
  readonly #bytes: Uint8Array;
  readonly #path: string;
  readonly #fields: FieldBudget;
  #at: number;
  readonly #end: number;
  #wireType = 0;

  /**
   * @param path the path of the message, for errors
   * @param fields bounds the time of this message and of those in it. @defaultValue no bound
   * @param from the part of the bytes that is the message. @defaultValue all
   */
  constructor(
    bytes: Uint8Array,
    path: string,
    fields: FieldBudget = { remaining: Number.POSITIVE_INFINITY },
    from = 0,
    end = bytes.length,
  ) {
    this.#bytes = bytes;
    this.#path = path;
    this.#fields = fields;
    this.#at = from;
    this.#end = end;
  }

  /**
   * Read the tag of the next field.
   *
   * @returns false at the end of the message
   * @throws {WireError}
   */
  next(): boolean {
    if (this.#at === this.#end) return false;
    if (this.#fields.remaining-- <= 0) throw new WireError(this.#path, 'has too many fields');
    const tag = this.#varint(this.#path);
    this.field = Math.floor(tag / 8);
    this.#wireType = tag & 7;
    // A tag is 32 bits: a field number is 29.
    if (this.field < 1 || this.field >= 2 ** 29) throw new WireError(this.#path, `has the field number ${this.field}`);
    return true;
  }

  /**
   * Skip the current field, which is not known.
   *
   * @throws {WireError} for a group, and for a wire type that does not exist
   */
  skip(): void {
    if (this.#wireType === WIRE.varint) this.#varint(null);
    else if (this.#wireType === WIRE.fixed64) this.#advance(8, null);
    else if (this.#wireType === WIRE.bytes) this.#advance(this.#varint(null), null);
    else if (this.#wireType === WIRE.fixed32) this.#advance(4, null);
    else throw this.#error(null, `has the wire type ${this.#wireType}, which is not supported`);
  }

  /** Read an int32, int64, bool or enum. */
  integer(name: string): number {
    this.#expect(WIRE.varint, name);
    return this.#varint(name);
  }

  /** Read some of the values of a repeated integer, packed or not. */
  integers(name: string, push: (value: number) => void): void {
    if (this.#wireType !== WIRE.bytes) {
      push(this.integer(name));
      return;
    }
    const packed = this.message(name);
    while (packed.#at < packed.#end) push(packed.#varint(name));
  }

  double(name: string): number {
    this.#expect(WIRE.fixed64, name);
    this.#advance(8, name);
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset + this.#at - 8, 8).getFloat64(0, true);
  }

  bytes(name: string): Uint8Array {
    const from = this.#open(name);
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + from, this.#at - from);
  }

  /** @returns a reader of an inner message, which may be read later */
  message(name: string): MessageReader {
    const from = this.#open(name);
    return new MessageReader(this.#bytes, name, this.#fields, from, this.#at);
  }

  text(name: string): string {
    const bytes = this.bytes(name);
    if (bytes.length > MAX_TEXT_BYTES) throw new WireError(name, `has more than ${MAX_TEXT_BYTES} bytes`);
    try {
      return decoder.decode(bytes);
    } catch {
      throw new WireError(name, 'is not UTF-8');
    }
  }

  /** @returns the start of the bytes of the field, which end where the next field begins */
  #open(name: string): number {
    this.#expect(WIRE.bytes, name);
    const length = this.#varint(name);
    this.#advance(length, name);
    return this.#at - length;
  }

  #expect(wireType: number, name: string): void {
    if (this.#wireType === wireType) return;
    throw new WireError(name, `has the wire type ${this.#wireType}, and must have ${wireType}`);
  }

  #advance(count: number, name: string | null): void {
    if (count < 0) throw this.#error(name, 'has a negative length');
    if (count > this.#end - this.#at) throw this.#error(name, 'is truncated');
    this.#at += count;
  }

  /** @returns a signed integer of 64 bits, which a number holds exactly */
  #varint(name: string | null): number {
    let value = 0;
    // Seven bytes hold 49 bits, which a sum of numbers has exactly.
    for (let index = 0; index < 7; index++) {
      const byte = this.#byte(name);
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return value;
    }
    let long = BigInt(value);
    for (let index = 7; index < 10; index++) {
      const byte = this.#byte(name);
      long |= BigInt(byte & 0x7f) << BigInt(7 * index);
      if (byte >= 0x80) continue;
      const signed = Number(BigInt.asIntN(64, long));
      if (!Number.isSafeInteger(signed)) throw this.#error(name, 'has an integer beyond 53 bits');
      return signed;
    }
    throw this.#error(name, 'has a varint of more than 10 bytes');
  }

  #byte(name: string | null): number {
    if (this.#at === this.#end) throw this.#error(name, 'is truncated');
    return this.#bytes[this.#at++]!;
  }

  /** @param name the path of the field; null: it is known by its number alone */
  #error(name: string | null, reason: string): WireError {
    return new WireError(name ?? `${this.#path} field ${this.field}`, reason);
  }
}

/**
 * The arguments of a typed array over the bytes, which are copied only if its elements would not be aligned.
 *
 * @throws {WireError} unless the bytes are whole elements
 */
export function aligned(bytes: Uint8Array, itemBytes: number): [ArrayBuffer, number, number] {
  const { buffer, byteOffset, length } = bytes.byteOffset % itemBytes === 0 ? bytes : bytes.slice();
  if (length % itemBytes !== 0) throw new WireError('tensor', `has ${length} bytes, and elements of ${itemBytes}`);
  return [buffer as ArrayBuffer, byteOffset, length / itemBytes];
}
