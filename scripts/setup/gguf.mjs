import { readFile } from 'node:fs/promises';

/**
 * @typedef {number | boolean | string | GgufValue[]} GgufValue
 *
 * @typedef {object} GgufTensor
 * @property {string} type its name in ggml, such as `Q8_0`
 * @property {number[]} shape row-major, as in PyTorch: the reverse of the order in the file
 * @property {Buffer} bytes as stored
 */

/** The types of the demo model's tensors and of those that packages/export writes: weights and bytes of a block, by `enum ggml_type`. */
const TENSOR_TYPES = new Map([
  [0, { name: 'F32', blockWeights: 1, blockBytes: 4 }],
  [1, { name: 'F16', blockWeights: 1, blockBytes: 2 }],
  [3, { name: 'Q4_1', blockWeights: 32, blockBytes: 20 }],
  [8, { name: 'Q8_0', blockWeights: 32, blockBytes: 34 }],
  [30, { name: 'BF16', blockWeights: 1, blockBytes: 2 }],
  [39, { name: 'MXFP4', blockWeights: 32, blockBytes: 17 }],
]);
const ARRAY = 9;
const ALIGNMENT = 32;

/**
 * Reads a whole GGUF file of version 3 into memory. Only for files that we pin or write: it has no bounds for what others may send.
 *
 * Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @param {string} file
 * @returns {Promise<{ metadata: Map<string, GgufValue>, tensors: Map<string, GgufTensor> }>} both in the order of the file
 * @throws {Error} when the file is damaged, or has another type than those above
 */
export async function readGguf(file) {
  const bytes = await readFile(file);
  let at = 0;
  const skip = (/** @type {number} */ length) => {
    at += length;
    return at - length;
  };
  const uint32 = () => bytes.readUInt32LE(skip(4));
  const uint64 = () => Number(bytes.readBigUInt64LE(skip(8)));
  const text = () => {
    const length = uint64();
    return bytes.toString('utf8', skip(length), at);
  };
  /** @type {[number, () => GgufValue][]} */
  const scalars = [
    [4, uint32],
    [5, () => bytes.readInt32LE(skip(4))],
    [6, () => bytes.readFloatLE(skip(4))],
    [7, () => bytes.readUInt8(skip(1)) === 1],
    [8, text],
  ];
  const readScalar = new Map(scalars);
  /** @returns {GgufValue} */
  const readValue = (/** @type {number} */ type) => {
    if (type === ARRAY) {
      const elementType = uint32();
      return Array.from({ length: uint64() }, () => readValue(elementType));
    }
    const read = readScalar.get(type);
    if (!read) throw new Error(`${file} has a value of the unknown type ${type}`);
    return read();
  };

  if (bytes.toString('latin1', skip(4), at) !== 'GGUF' || uint32() !== 3)
    throw new Error(`${file} is not GGUF version 3`);
  const [tensorCount, keyCount] = [uint64(), uint64()];
  const metadata = new Map(Array.from({ length: keyCount }, () => [text(), readValue(uint32())]));
  const infos = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: uint32() }, uint64).reverse();
    return { name, shape, typeNumber: uint32(), offset: uint64() };
  });
  const dataStart = Math.ceil(at / ALIGNMENT) * ALIGNMENT;
  const tensors = new Map(
    infos.map(({ name, shape, typeNumber, offset }) => {
      const type = TENSOR_TYPES.get(typeNumber);
      if (!type) throw new Error(`the tensor ${name} of ${file} has the unknown type ${typeNumber}`);
      const blocks = shape.reduce((product, size) => product * size, 1) / type.blockWeights;
      const start = dataStart + offset;
      const end = start + blocks * type.blockBytes;
      if (offset % ALIGNMENT !== 0 || !Number.isInteger(blocks) || end > bytes.length) {
        throw new Error(`the tensor ${name} of ${file} is not aligned, or does not fit the file`);
      }
      return [name, { type: type.name, shape, bytes: bytes.subarray(start, end) }];
    }),
  );
  if (metadata.size < keyCount || tensors.size < tensorCount) throw new Error(`${file} has a name twice`);
  return { metadata, tensors };
}

/**
 * Decodes one row of a tensor and rounds each weight once to bfloat16. As in ggml, every product and sum is rounded to float32.
 *
 * @typedef {(bytes: Buffer, row: Uint16Array) => void} DecodeRow `bytes`: those of the row; `row`: one bfloat16 for each weight
 */

/** Weights in a block of the quantized types. */
const BLOCK = 32;

/** The rows of each type, by its name. @type {Record<string, DecodeRow>} */
export const DECODE_ROW = {
  F32(bytes, row) {
    for (let i = 0; i < row.length; i++) row[i] = toBfloat16(bytes.readFloatLE(4 * i));
  },

  /** `d q + m`; d, m, qs[16]. A byte has weight j in its low four bits, and weight j + 16 in its high. */
  Q4_1(bytes, row) {
    const values = new Uint16Array(16);
    for (let block = 0, at = 0; at < row.length; block += 20, at += BLOCK) {
      const d = float16At(bytes, block);
      const m = float16At(bytes, block + 2);
      for (let q = 0; q < 16; q++) values[q] = toBfloat16(Math.fround(d * q) + m);
      for (let j = 0; j < 16; j++) {
        const pair = /** @type {number} */ (bytes[block + 4 + j]);
        row[at + j] = /** @type {number} */ (values[pair & 15]);
        row[at + j + 16] = /** @type {number} */ (values[pair >> 4]);
      }
    }
  },

  /** `d q`; d, then 32 signed bytes. */
  Q8_0(bytes, row) {
    for (let block = 0, at = 0; at < row.length; block += 34, at += BLOCK) {
      const d = float16At(bytes, block);
      for (let j = 0; j < BLOCK; j++) row[at + j] = toBfloat16(d * bytes.readInt8(block + 2 + j));
    }
  },
};

const float32 = new Float32Array(1);
const float32Bits = new Uint32Array(float32.buffer);

/** Rounds to float32, then to bfloat16: to nearest, with ties to even. @param {number} value finite */
function toBfloat16(value) {
  float32[0] = value;
  const bits = /** @type {number} */ (float32Bits[0]);
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** A finite half float. @param {Buffer} bytes @param {number} offset */
function float16At(bytes, offset) {
  const word = bytes.readUInt16LE(offset);
  const exponent = (word >>> 10) & 31;
  const fraction = (word & 1023) / 1024;
  const magnitude = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
  return word & 0x8000 ? -magnitude : magnitude;
}
