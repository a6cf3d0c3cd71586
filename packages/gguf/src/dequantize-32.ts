import { float16Value } from '@lorasmith/safetensors';

/**
 * The formats with blocks of 32 weights (ggml-quants.c, `dequantize_row_q4_0` etc.). Each function converts complete blocks
 * to 32 numbers each. As in ggml, every product and sum is rounded to float32.
 *
 * Scale `d` and minimum `m` are half floats, but for MXFP4. A byte of `qs` has weight j in its low four bits and weight j + 16 in its high.
 */
export type Dequantize = (blocks: Uint8Array, values: Float32Array) => void;

const WEIGHTS = 32;
const HALF = 16;

/** `d (q - 8)`; d, qs[16]. */
export const dequantizeQ4_0: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 18, at += WEIGHTS) {
    const d = half(blocks, block);
    for (let j = 0; j < HALF; j++) {
      const pair = blocks[block + 2 + j]!;
      values[at + j] = d * ((pair & 15) - 8);
      values[at + j + HALF] = d * ((pair >> 4) - 8);
    }
  }
};

/** `d q + m`; d, m, qs[16]. */
export const dequantizeQ4_1: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 20, at += WEIGHTS) {
    const d = half(blocks, block);
    const m = half(blocks, block + 2);
    for (let j = 0; j < HALF; j++) {
      const pair = blocks[block + 4 + j]!;
      values[at + j] = Math.fround(d * (pair & 15)) + m;
      values[at + j + HALF] = Math.fround(d * (pair >> 4)) + m;
    }
  }
};

/** `d (q - 16)`; d, the fifth bits as 32 bits, qs[16]. */
export const dequantizeQ5_0: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 22, at += WEIGHTS) {
    const d = half(blocks, block);
    const fifthBits = word(blocks, block + 2);
    for (let j = 0; j < HALF; j++) {
      const pair = blocks[block + 6 + j]!;
      values[at + j] = d * (((pair & 15) | (((fifthBits >>> j) & 1) << 4)) - 16);
      values[at + j + HALF] = d * (((pair >> 4) | (((fifthBits >>> (j + HALF)) & 1) << 4)) - 16);
    }
  }
};

/** `d q + m`; d, m, the fifth bits as 32 bits, qs[16]. */
export const dequantizeQ5_1: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 24, at += WEIGHTS) {
    const d = half(blocks, block);
    const m = half(blocks, block + 2);
    const fifthBits = word(blocks, block + 4);
    for (let j = 0; j < HALF; j++) {
      const pair = blocks[block + 8 + j]!;
      values[at + j] = Math.fround(d * ((pair & 15) | (((fifthBits >>> j) & 1) << 4))) + m;
      values[at + j + HALF] = Math.fround(d * ((pair >> 4) | (((fifthBits >>> (j + HALF)) & 1) << 4))) + m;
    }
  }
};

/** `d q`; d, then 32 signed bytes. */
export const dequantizeQ8_0: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 34, at += WEIGHTS) {
    const d = half(blocks, block);
    for (let j = 0; j < WEIGHTS; j++) values[at + j] = d * ((blocks[block + 2 + j]! << 24) >> 24);
  }
};

/** Twice the numbers of the codes of MXFP4, which are integers (`kvalues_mxfp4`). */
const MXFP4_VALUES = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** `v(q) 2^(e - 128)`; e in a byte, qs[16]. */
export const dequantizeMXFP4: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 17, at += WEIGHTS) {
    const d = 2 ** (blocks[block]! - 128);
    for (let j = 0; j < HALF; j++) {
      const pair = blocks[block + 1 + j]!;
      values[at + j] = d * MXFP4_VALUES[pair & 15]!;
      values[at + j + HALF] = d * MXFP4_VALUES[pair >> 4]!;
    }
  }
};

function half(bytes: Uint8Array, offset: number): number {
  return float16Value(bytes[offset]! | (bytes[offset + 1]! << 8));
}

function word(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
}
