import { type Dtype, dtypeRank, isDtype, SafetensorsError, tensorBytes } from './dtype.js';

/** Limit of the reference implementation, so that a crafted file cannot exhaust memory. */
export const MAX_HEADER_BYTES = 100_000_000;

/** The header's length comes before it, in this many bytes (u64, little-endian). */
export const LENGTH_BYTES = 8;

/** Limit for the dimensions of a tensor, which bounds the work per entry. Known models have far fewer. */
const MAX_DIMENSIONS = 64;

/** Limit for names, which go into messages, tables and lists. The longest names of known models have a tenth of this. */
const MAX_NAME_CHARACTERS = 1_000;
/** Limits, for docs/limits.md. */
export const headerLimits = {
  bytes: { value: MAX_HEADER_BYTES, unit: 'bytes', beyond: '422 `invalid_adapter`' },
  name: { value: MAX_NAME_CHARACTERS, unit: 'characters', beyond: '422 `invalid_adapter`' },
};

/** One tensor of a file. */
export interface TensorEntry {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  /** Offset from the start of the file. */
  byteOffset: number;
  byteLength: number;
}

interface Header {
  tensors: ReadonlyMap<string, TensorEntry>;
  metadata: ReadonlyMap<string, string>;
}

/**
 * Parses and checks the JSON header: every range is inside the file, without holes or overlaps, and matches its size.
 *
 * @param text the header's bytes, without its length
 * @param fileBytes size of the file
 * @throws SafetensorsError header_invalid, duplicate_key, entry_invalid, size_mismatch, range_invalid
 */
export function parseHeader(text: Uint8Array, fileBytes: number): Header {
  const dataStart = LENGTH_BYTES + text.byteLength;
  const root = parseJson(text);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorEntry>();
  let keyCount = 0;
  for (const [name, value] of Object.entries(root)) {
    if (!isObject(value)) throw new SafetensorsError('entry_invalid', `${quote(name)} is not an object`);
    keyCount += 1 + Object.keys(value).length;
    if (name === '__metadata__') readMetadata(value, metadata);
    else tensors.set(name, readEntry(name, value, dataStart));
  }
  // JSON.parse silently keeps the last of equal keys, so compare with the number of keys in the text.
  if (countKeys(text) !== keyCount) {
    throw new SafetensorsError('duplicate_key', 'the header has a duplicate key');
  }
  checkLayout(tensors, dataStart, fileBytes);
  return { tensors, metadata };
}

function parseJson(text: Uint8Array): Record<string, unknown> {
  if (text[0] !== 0x7b) throw new SafetensorsError('header_invalid', 'the header does not begin with "{"');
  let root: unknown;
  try {
    root = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text));
  } catch (cause) {
    throw new SafetensorsError('header_invalid', 'the header is not valid JSON in UTF-8', { cause });
  }
  if (!isObject(root)) throw new SafetensorsError('header_invalid', 'the header is not an object');
  return root;
}

function readMetadata(value: Record<string, unknown>, metadata: Map<string, string>): void {
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      throw new SafetensorsError('entry_invalid', `__metadata__ ${quote(key)} is not a string`);
    }
    metadata.set(key, text);
  }
}

function readEntry(name: string, value: Record<string, unknown>, dataStart: number): TensorEntry {
  const fail = (what: string) => new SafetensorsError('entry_invalid', `tensor ${quote(name)}: ${what}`);
  if (name.length > MAX_NAME_CHARACTERS) throw fail(`its name has more than ${MAX_NAME_CHARACTERS} characters`);
  const { dtype, shape, data_offsets: offsets, ...others } = value;
  for (const key in others) throw fail(`unknown key ${quote(key)}`);
  if (typeof dtype !== 'string') throw fail('dtype is not a string');
  if (!isDtype(dtype)) throw fail(`dtype ${quote(dtype)} is not part of the format`);
  if (!isSizes(shape)) throw fail('shape is not a list of sizes');
  if (!isSizes(offsets) || offsets.length !== 2) throw fail('data_offsets are not two offsets');
  const [begin, end] = offsets as [number, number];
  const byteLength = tensorBytes(dtype, shape);
  if (byteLength === null || end - begin !== byteLength) {
    throw new SafetensorsError(
      'size_mismatch',
      `tensor ${quote(name)}: ${dtype} [${shape.join(', ')}] does not match the ${end - begin} bytes of its range`,
    );
  }
  return { name, dtype, shape, byteOffset: dataStart + begin, byteLength };
}

/** The tensors must cover the data exactly once: gaps and overlaps could hide other content. */
function checkLayout(tensors: ReadonlyMap<string, TensorEntry>, dataStart: number, fileBytes: number): void {
  const inOrder = [...tensors.values()].sort(
    (a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength || (a.name < b.name ? -1 : 1),
  );
  let position = dataStart;
  for (const { name, byteOffset, byteLength } of inOrder) {
    if (byteOffset !== position) {
      const what = byteOffset > position ? 'leaves a hole before it' : 'overlaps another tensor';
      throw new SafetensorsError('range_invalid', `tensor ${quote(name)} ${what}`);
    }
    position += byteLength;
    if (position > fileBytes) {
      throw new SafetensorsError('file_truncated', `tensor ${quote(name)} reaches past the end of the file`);
    }
  }
  if (position !== fileBytes) {
    throw new SafetensorsError('range_invalid', `${fileBytes - position} bytes at the end belong to no tensor`);
  }
}

/** Counts the keys in valid JSON: its colons outside strings. */
function countKeys(json: Uint8Array): number {
  let keys = 0;
  let insideString = false;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i];
    if (byte === 0x22) insideString = !insideString;
    else if (byte === 0x5c)
      i++; // a backslash, only found in strings: the next byte does not end the string
    else if (byte === 0x3a && !insideString) keys++;
  }
  return keys;
}

function isSizes(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length <= MAX_DIMENSIONS &&
    value.every((size) => Number.isSafeInteger(size) && size >= 0)
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Names come from the file, so they are shortened and escaped before they reach a message or a log. */
function quote(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}

/** A tensor of a header, without its position in the file. */
export interface TensorDescription {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

export interface SafetensorsHeader<Description extends TensorDescription = TensorDescription> {
  /** The start of the file: the length and the JSON, padded with spaces to a multiple of 8. */
  header: Uint8Array<ArrayBuffer>;
  /** Size of the file. */
  totalBytes: number;
  /** The entries in the order in which the data must follow the header, without gaps. */
  entries: (Description & TensorEntry)[];
}

/**
 * Creates the header of a file whose data is streamed after it. Tensors are sorted by descending width of their dtype, then
 * by name, as in the reference implementation: every tensor is aligned, and the same tensors always give the same bytes.
 *
 * @param metadata strings for `__metadata__`; transformers needs `{ format: 'pt' }`
 * @throws SafetensorsError duplicate_key, entry_invalid, header_too_large
 */
export function safetensorsHeader<Description extends TensorDescription>(
  descriptions: Iterable<Description>,
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsHeader<Description> {
  const inOrder = [...descriptions].sort(
    (a, b) => dtypeRank(b.dtype) - dtypeRank(a.dtype) || compareBytewise(a.name, b.name),
  );
  const fields: string[] = [];
  const metadataKeys = Object.keys(metadata).sort(compareBytewise);
  if (metadataKeys.length > 0) {
    fields.push(
      `"__metadata__":${JSON.stringify(Object.fromEntries(metadataKeys.map((key) => [key, metadata[key]])))}`,
    );
  }
  const names = new Set(['__metadata__']);
  let position = 0;
  const lengths = inOrder.map(({ name, dtype, shape }) => {
    if (names.has(name)) throw new SafetensorsError('duplicate_key', `two tensors are named ${JSON.stringify(name)}`);
    names.add(name);
    const byteLength = shape.every((size) => Number.isSafeInteger(size) && size >= 0)
      ? tensorBytes(dtype, shape)
      : null;
    if (byteLength === null) {
      throw new SafetensorsError('entry_invalid', `tensor ${JSON.stringify(name)} has the shape [${shape.join(', ')}]`);
    }
    const data_offsets = [position, position + byteLength];
    // Not an object: it would move names that look like array indices to its front.
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets })}`);
    position += byteLength;
    return byteLength;
  });
  const header = encodeHeader(`{${fields.join(',')}}`);
  position = header.byteLength;
  const entries = inOrder.map((description, index) => {
    const byteOffset = position;
    const byteLength = lengths[index]!;
    position += byteLength;
    return { ...description, byteOffset, byteLength };
  });
  return { header, totalBytes: position, entries };
}

function encodeHeader(json: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(json);
  const paddedBytes = Math.ceil(text.byteLength / 8) * 8;
  if (paddedBytes > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      'header_too_large',
      `the header has ${paddedBytes} bytes; the limit is ${MAX_HEADER_BYTES}`,
    );
  }
  const header = new Uint8Array(LENGTH_BYTES + paddedBytes).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(paddedBytes), true);
  header.set(text, LENGTH_BYTES);
  return header;
}

/** Compares by UTF-8 bytes, which is the order of the code points in every locale. */
function compareBytewise(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
