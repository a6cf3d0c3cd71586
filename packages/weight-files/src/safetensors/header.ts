import { type Dtype, isDtype, tensorBytes } from './dtype.js';
import { SafetensorsError } from './safetensors-error.js';

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

export interface Header {
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
