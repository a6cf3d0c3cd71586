import { ProductError } from '@lorasmith/contracts';
import { ByteCursor } from './byte-cursor.js';
import { TENSOR_TYPES, type TensorType, tensorTypeName } from './tensor-type.js';

type GgufScalar = number | bigint | boolean | string;
export type GgufValue = GgufScalar | GgufScalar[];

export interface GgufTensor {
  name: string;
  type: TensorType;
  /** Row-major, as in PyTorch: the reverse of the order in the file. */
  shape: number[];
  /** Offset from the start of the file. */
  byteOffset: number;
  byteLength: number;
}

export interface GgufHeader {
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: ReadonlyMap<string, GgufTensor>;
}

// Limits for the values in a header, all well above any known model. Without them, a few bytes could allocate gigabytes.
const MAX_KEYS = 65_536;
const MAX_KEY_BYTES = 65_535; // the specification's own limit
const MAX_STRING_BYTES = 16 * 2 ** 20;
const MAX_ARRAY_LENGTH = 2 ** 22; // the largest vocabularies have 2^18 tokens
const MAX_TENSORS = 65_536;
const MAX_TENSOR_NAME_BYTES = 256;
const MAX_DIMENSIONS = 4; // ggml's own limit
const MAX_ALIGNMENT = 2 ** 20;
const DEFAULT_ALIGNMENT = 32;
const ARRAY_TYPE = 9;

/**
 * Parses the header of a GGUF file, version 2 or 3: metadata and the table of tensors.
 *
 * Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @param bytes the start of the file
 * @param fileBytes size of the file
 * @param label the file's name in messages
 * @throws OutOfBytes when the header is longer than `bytes`
 * @throws ProductError model_file_corrupt, model_not_supported
 */
export function parseGgufHeader(bytes: Uint8Array, fileBytes: number, label: string): GgufHeader {
  const reader = new HeaderReader(new ByteCursor(bytes), label);
  reader.readMagic();
  const tensorCount = reader.count('tensors', MAX_TENSORS);
  const keyCount = reader.count('metadata keys', MAX_KEYS);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = reader.text('a key', MAX_KEY_BYTES);
    if (metadata.has(key)) throw reader.corrupt(`has the metadata key ${JSON.stringify(key)} twice`);
    metadata.set(key, reader.value(key));
  }
  const infos = Array.from({ length: tensorCount }, () => reader.tensorInfo());
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (typeof alignment !== 'number' || alignment < 8 || alignment > MAX_ALIGNMENT || alignment % 8 !== 0) {
    throw reader.corrupt(`has general.alignment ${String(alignment).slice(0, 40)}`);
  }
  const dataStart = Math.ceil(reader.offset / alignment) * alignment;
  return { metadata, tensors: locateTensors(infos, { alignment, dataStart, fileBytes }, reader) };
}

interface TensorInfo {
  name: string;
  type: number;
  shape: number[];
  offset: bigint;
}

interface DataLayout {
  alignment: number;
  dataStart: number;
  fileBytes: number;
}

/** Computes the locations of the tensors in the file. They must be aligned, inside the file, and must not overlap. */
function locateTensors(infos: TensorInfo[], layout: DataLayout, reader: HeaderReader): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const { name, type: typeNumber, shape, offset } of infos) {
    const label = `tensor ${JSON.stringify(name)}`;
    if (tensors.has(name)) throw reader.corrupt(`has ${label} twice`);
    const type = TENSOR_TYPES.get(typeNumber);
    if (!type) {
      const supported = [...TENSOR_TYPES.values()].map((known) => known.name).join(', ');
      throw reader.unsupported(`${label} has the type ${tensorTypeName(typeNumber)}; ${supported} are supported`);
    }
    if (shape.at(-1)! % type.blockWeights !== 0) {
      throw reader.corrupt(`${label}: rows of ${shape.at(-1)} weights are not a whole number of ${type.name} blocks`);
    }
    const weights = shape.reduce((product, size) => product * size, 1);
    const byteLength = (weights / type.blockWeights) * type.blockBytes;
    // A product of at most four sizes is either exact or far too large, so this check is reliable.
    if (offset % BigInt(layout.alignment) !== 0n || byteLength > layout.fileBytes) {
      throw reader.corrupt(`${label} does not fit the file, or is not aligned`);
    }
    if (offset > BigInt(layout.fileBytes - layout.dataStart - byteLength)) {
      throw reader.corrupt(`ends before ${label} does. Download it again`);
    }
    tensors.set(name, { name, type, shape, byteOffset: layout.dataStart + Number(offset), byteLength });
  }
  const inOrder = [...tensors.values()].sort((a, b) => a.byteOffset - b.byteOffset);
  inOrder.forEach(({ name, byteOffset }, index) => {
    const previous = inOrder[index - 1];
    if (previous && byteOffset < previous.byteOffset + previous.byteLength) {
      throw reader.corrupt(`has overlapping tensors, ${JSON.stringify(previous.name)} and ${JSON.stringify(name)}`);
    }
  });
  return tensors;
}

/** Reads the values of the header and checks their limits. */
class HeaderReader {
  readonly #cursor: ByteCursor;
  readonly #label: string;

  constructor(cursor: ByteCursor, label: string) {
    this.#cursor = cursor;
    this.#label = label;
  }

  get offset(): number {
    return this.#cursor.offset;
  }

  readMagic(): void {
    if (this.#cursor.uint32() !== 0x46554747) throw this.corrupt('is not a GGUF file: it does not begin with "GGUF"');
    const version = this.#cursor.uint32();
    // In a big-endian file, the version is in the upper bytes of the word.
    if (version !== 0 && (version & 0xffff) === 0) throw this.unsupported('is big-endian');
    if (version !== 2 && version !== 3) throw this.unsupported(`has GGUF version ${version}; 2 and 3 are supported`);
  }

  count(what: string, limit: number): number {
    const count = this.#cursor.uint64();
    if (count > BigInt(limit)) throw this.corrupt(`claims ${count} ${what}; the limit is ${limit}`);
    return Number(count);
  }

  text(what: string, maxBytes: number): string {
    const byteLength = this.count(`bytes for ${what}`, maxBytes);
    try {
      return this.#cursor.text(byteLength);
    } catch (error) {
      if (error instanceof TypeError) throw this.corrupt(`has ${what} that is not UTF-8`);
      throw error;
    }
  }

  value(key: string): GgufValue {
    const type = this.#cursor.uint32();
    if (type !== ARRAY_TYPE) return this.#scalar(type, key);
    const elementType = this.#cursor.uint32();
    if (elementType === ARRAY_TYPE) throw this.unsupported(`has an array of arrays at ${JSON.stringify(key)}`);
    const length = this.count(`elements for ${JSON.stringify(key)}`, MAX_ARRAY_LENGTH);
    const values: GgufScalar[] = [];
    for (let i = 0; i < length; i++) values.push(this.#scalar(elementType, key));
    return values;
  }

  tensorInfo(): TensorInfo {
    const name = this.text('a tensor name', MAX_TENSOR_NAME_BYTES);
    const dimensions = this.#cursor.uint32();
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
      throw this.corrupt(`claims ${dimensions} dimensions for tensor ${JSON.stringify(name)}`);
    }
    const shape: number[] = [];
    for (let i = 0; i < dimensions; i++) {
      const size = this.#cursor.uint64();
      if (size < 1n || size > 2n ** 40n)
        throw this.corrupt(`claims the size ${size} for tensor ${JSON.stringify(name)}`);
      shape.unshift(Number(size));
    }
    return { name, type: this.#cursor.uint32(), shape, offset: this.#cursor.uint64() };
  }

  corrupt(what: string): ProductError {
    return new ProductError('model_file_corrupt', `${this.#label} ${what}.`);
  }

  unsupported(what: string): ProductError {
    return new ProductError('model_not_supported', `${this.#label}: ${what}.`);
  }

  #scalar(type: number, key: string): GgufScalar {
    switch (type) {
      case 0:
        return this.#cursor.uint8();
      case 1:
        return this.#cursor.int8();
      case 2:
        return this.#cursor.uint16();
      case 3:
        return this.#cursor.int16();
      case 4:
        return this.#cursor.uint32();
      case 5:
        return this.#cursor.int32();
      case 6:
        return this.#cursor.float32();
      case 7:
        return this.#boolean(key);
      case 8:
        return this.text(`the value of ${JSON.stringify(key)}`, MAX_STRING_BYTES);
      case 10:
        return asNumber(this.#cursor.uint64());
      case 11:
        return asNumber(this.#cursor.int64());
      case 12:
        return this.#cursor.float64();
      default:
        throw this.corrupt(`has a value of unknown type ${type} at ${JSON.stringify(key)}`);
    }
  }

  #boolean(key: string): boolean {
    const value = this.#cursor.uint8();
    if (value > 1) throw this.corrupt(`has the boolean ${value} at ${JSON.stringify(key)}`);
    return value === 1;
  }
}

function asNumber(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
