import { viewAs16Bit } from './element-view.js';

/** The float32 bits of each of the 65,536 half floats; a look-up is several times faster than the arithmetic. */
const FLOAT32_BITS = buildTable();
const FLOAT32_VALUES = new Float32Array(FLOAT32_BITS.buffer);

/** The number that one half float (16 bits) stands for. */
export function float16Value(word: number): number {
  return FLOAT32_VALUES[word]!;
}

/**
 * float16 (IEEE 754 binary16) to float32; exact.
 *
 * @param bytes little-endian, two a number
 */
export function float16ToFloat32(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const source = viewAs16Bit(bytes);
  const result = new Float32Array(source.length);
  const bits = new Uint32Array(result.buffer);
  for (let i = 0; i < source.length; i++) bits[i] = FLOAT32_BITS[source[i]!]!;
  return result;
}

/**
 * float32 to float16, rounded to nearest with ties to even; over 65,519.99… becomes infinity, a NaN stays one.
 *
 * @returns little-endian, two bytes a number
 */
export function float32ToFloat16(values: Float32Array): Uint8Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) result[i] = halfOf(bits[i]!);
  return new Uint8Array(result.buffer);
}

function halfOf(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff); // NaN, quiet
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65,520 and more round to infinity
  if (magnitude >= 0x38800000) {
    // Normal: move the exponent's bias from 127 to 15 and round the 13 bits that fall off.
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  if (magnitude <= 0x33000000) return sign; // 2^-25 and less round to zero (a tie goes to even)
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const half = 1 << (shift - 1);
  return sign | ((significand + half - 1 + ((significand >>> shift) & 1)) >>> shift);
}

function buildTable(): Uint32Array<ArrayBuffer> {
  const table = new Uint32Array(65_536);
  const number = new Float32Array(1);
  const numberBits = new Uint32Array(number.buffer);
  for (let half = 0; half < 65_536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) {
      number[0] = fraction * 2 ** -24;
      table[half] = sign | numberBits[0]!;
    } else if (exponent === 31) table[half] = sign | 0x7f800000 | (fraction << 13);
    else table[half] = sign | ((exponent + 112) << 23) | (fraction << 13);
  }
  return table;
}
