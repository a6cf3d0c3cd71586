import { viewAs16Bit } from './element-view.js';

/**
 * bfloat16 (the upper half of a float32) to float32; exact.
 *
 * @param bytes little-endian, two a number
 */
export function bfloat16ToFloat32(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const source = viewAs16Bit(bytes);
  const result = new Float32Array(source.length);
  const bits = new Uint32Array(result.buffer);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  return result;
}

/**
 * float32 to bfloat16, rounded to nearest with ties to even, as PyTorch does; a NaN stays one, with its sign.
 *
 * @returns little-endian, two bytes a number
 */
export function float32ToBfloat16(values: Float32Array): Uint8Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    // Rounding up a NaN could carry into infinity: set its quiet bit instead.
    result[i] = (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(result.buffer);
}
