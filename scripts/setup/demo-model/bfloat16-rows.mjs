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
