/** The float32 bits of all 65,536 half floats; a lookup is several times faster than arithmetic. */
const FLOAT32_BITS = buildTable();

/**
 * bfloat16 (the upper half of a float32) to float32; exact.
 *
 * @param bytes little-endian, two per number
 */
export function bfloat16ToFloat32(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const source = viewAs16Bit(bytes);
  const result = new Float32Array(source.length);
  const bits = new Uint32Array(result.buffer);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  return result;
}

/**
 * float32 to bfloat16, rounded to nearest with ties to even, as PyTorch does. A NaN stays a NaN, with its sign.
 *
 * @returns little-endian, two bytes per number
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

/**
 * float16 (IEEE 754 binary16) to float32; exact.
 *
 * @param bytes little-endian, two per number
 */
export function float16ToFloat32(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const source = viewAs16Bit(bytes);
  const result = new Float32Array(source.length);
  const bits = new Uint32Array(result.buffer);
  for (let i = 0; i < source.length; i++) bits[i] = FLOAT32_BITS[source[i]!]!;
  return result;
}

/**
 * float32 to float16, rounded to nearest with ties to even. Values from 65,520 become infinity, a NaN stays a NaN.
 *
 * @returns little-endian, two bytes per number
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

/** Views bytes as 16-bit words. They are copied only if their offset is not aligned. */
export function viewAs16Bit(bytes: Uint8Array): Uint16Array {
  if (bytes.byteLength % 2 !== 0)
    throw new RangeError(`${bytes.byteLength} bytes are not a whole number of 16-bit words`);
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes);
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
}
