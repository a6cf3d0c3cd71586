import { float16Value } from '@lorasmith/safetensors';
import type { Dequantize } from './dequantize-32.js';

/**
 * The "k" formats: super-blocks of 256 weights whose scales are quantised too (ggml-quants.c, `dequantize_row_q4_K` etc.).
 * As in ggml, every product and difference is rounded to float32.
 */
const WEIGHTS = 256;

/** `(d sc) q - (dmin m)` for each 32 weights; d, dmin, scales[12], qs[128]. */
export const dequantizeQ4_K: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 144, at += WEIGHTS) {
    const d = half(blocks, block);
    const dmin = half(blocks, block + 2);
    for (let group = 0; group < 8; group++) {
      const scale = Math.fround(d * scaleOf(blocks, block + 4, group));
      const minimum = Math.fround(dmin * minimumOf(blocks, block + 4, group));
      // Groups 2k and 2k + 1 share 32 bytes: the low and the high four bits.
      const pairs = block + 16 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let j = 0; j < 32; j++) {
        const quantised = (blocks[pairs + j]! >> shift) & 15;
        values[at + group * 32 + j] = Math.fround(scale * quantised) - minimum;
      }
    }
  }
};

/** Q4_K with a fifth bit: bit `group` of `qh[j]`; d, dmin, scales[12], qh[32], qs[128]. */
export const dequantizeQ5_K: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 176, at += WEIGHTS) {
    const d = half(blocks, block);
    const dmin = half(blocks, block + 2);
    for (let group = 0; group < 8; group++) {
      const scale = Math.fround(d * scaleOf(blocks, block + 4, group));
      const minimum = Math.fround(dmin * minimumOf(blocks, block + 4, group));
      const pairs = block + 48 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let j = 0; j < 32; j++) {
        const fifthBit = (blocks[block + 16 + j]! >> group) & 1;
        const quantised = ((blocks[pairs + j]! >> shift) & 15) | (fifthBit << 4);
        values[at + group * 32 + j] = Math.fround(scale * quantised) - minimum;
      }
    }
  }
};

/** `(d sc) (q - 32)` for each 16 weights; ql[128] (low four bits), qh[64] (high two), signed scales[16], d. */
export const dequantizeQ6_K: Dequantize = (blocks, values) => {
  for (let block = 0, at = 0; at < values.length; block += 210, at += WEIGHTS) {
    const d = half(blocks, block + 208);
    for (let group = 0; group < 8; group++) {
      // Each half of a super-block has four groups of 32: two in bits 0-3 of 64 bytes, two in bits 4-7.
      const inHalf = group & 3;
      const low = block + (group >> 2) * 64 + (inHalf & 1) * 32;
      const lowShift = (inHalf >> 1) * 4;
      const high = block + 128 + (group >> 2) * 32;
      const highShift = inHalf * 2;
      for (let j = 0; j < 32; j++) {
        const scaleByte = blocks[block + 192 + group * 2 + (j >> 4)]!;
        const scale = Math.fround(d * ((scaleByte << 24) >> 24));
        const quantised = ((blocks[low + j]! >> lowShift) & 15) | (((blocks[high + j]! >> highShift) & 3) << 4);
        values[at + group * 32 + j] = scale * (quantised - 32);
      }
    }
  }
};

/** The six-bit scale of a group. Groups 0 to 3 have it in one byte; for the others, it is combined from two bytes. */
function scaleOf(bytes: Uint8Array, scales: number, group: number): number {
  if (group < 4) return bytes[scales + group]! & 63;
  return (bytes[scales + group + 4]! & 15) | ((bytes[scales + group - 4]! >> 6) << 4);
}

/** The six-bit minimum of a group, packed like the scales. */
function minimumOf(bytes: Uint8Array, scales: number, group: number): number {
  if (group < 4) return bytes[scales + group + 4]! & 63;
  return (bytes[scales + group + 4]! >> 4) | ((bytes[scales + group]! >> 6) << 4);
}

function half(bytes: Uint8Array, offset: number): number {
  return float16Value(bytes[offset]! | (bytes[offset + 1]! << 8));
}
