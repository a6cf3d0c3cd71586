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
