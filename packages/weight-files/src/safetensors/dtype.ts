/**
 * The bits per element of every dtype of the format, in the order of the reference implementation (`Dtype` in
 * https://github.com/huggingface/safetensors), from narrow to wide. Files are written in the reverse order, so that every
 * tensor is aligned.
 */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type Dtype = keyof typeof DTYPE_BITS;

const DTYPE_ORDER = Object.keys(DTYPE_BITS) as Dtype[];

/** The index of a dtype in the order of the reference implementation. */
export function dtypeRank(dtype: Dtype): number {
  return DTYPE_ORDER.indexOf(dtype);
}

/** The dtypes of weights that Lorasmith reads and writes. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(DTYPE_BITS, value);
}

export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/**
 * The bytes of a tensor; null if they exceed a safe integer or are not a whole number.
 *
 * Every partial product is checked, so `[2^40, 2^40, 0]` is rejected, as in the reference implementation.
 */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | null {
  let bits: number = DTYPE_BITS[dtype];
  for (const size of shape) {
    bits *= size;
    if (bits > Number.MAX_SAFE_INTEGER) return null;
  }
  return bits % 8 === 0 ? bits / 8 : null;
}

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

/**
 * Converts a tensor's bytes to float32, exactly. For F32, the result shares the memory of `bytes` if they are aligned.
 *
 * @throws SafetensorsError dtype_not_supported for dtypes other than F32, F16 and BF16
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array {
  switch (dtype) {
    case 'F32':
      return viewAsFloat32(bytes);
    case 'F16':
      return float16ToFloat32(bytes);
    case 'BF16':
      return bfloat16ToFloat32(bytes);
    default:
      throw new SafetensorsError('dtype_not_supported', `${dtype} cannot be read as float32`);
  }
}

/** Converts float32 to a dtype, rounding once. For F32, the result shares the memory of `values`. */
export function fromFloat32(values: Float32Array, dtype: FloatDtype): Uint8Array {
  switch (dtype) {
    case 'F32':
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case 'F16':
      return float32ToFloat16(values);
    case 'BF16':
      return float32ToBfloat16(values);
  }
}

/** Views bytes as float32. They are copied only if their offset is not aligned. */
export function viewAsFloat32(bytes: Uint8Array): Float32Array {
  if (bytes.byteLength % 4 !== 0) throw new RangeError(`${bytes.byteLength} bytes are not a whole number of float32`);
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}

/** Stable codes of errors in a safetensors file, or in a request to read or write one. */
export type SafetensorsErrorCode =
  | 'file_truncated'
  | 'header_too_large'
  | 'header_invalid'
  | 'duplicate_key'
  | 'entry_invalid'
  | 'size_mismatch'
  | 'range_invalid'
  | 'tensor_not_found'
  | 'tensor_too_large'
  | 'dtype_not_supported';

/** An error in a safetensors file. The message names the tensor. Services convert it to their own errors. */
export class SafetensorsError extends Error {
  readonly code: SafetensorsErrorCode;

  constructor(code: SafetensorsErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SafetensorsError';
    this.code = code;
  }
}
