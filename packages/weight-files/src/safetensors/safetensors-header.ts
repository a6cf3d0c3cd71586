import { type Dtype, dtypeRank, tensorBytes } from './dtype.js';
import { LENGTH_BYTES, MAX_HEADER_BYTES, type TensorEntry } from './header.js';
import { SafetensorsError } from './safetensors-error.js';

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
