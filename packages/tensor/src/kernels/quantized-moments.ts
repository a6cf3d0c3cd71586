import { SCALE_VALUES, UNSIGNED_VALUES } from '@lorasmith/weight-files';
import { reshape } from '../layout.js';
import { keep, scope, type Tensor } from '../tensor.js';
import { bytesAsFloat32, tensorOf, tensorOfBytes, toFloat32Array } from '../transfer.js';

// AdamW's moments in 8 bits, in blocks of 256 with a scale each (Dettmers et al. 2021, arXiv:2110.02861), as bitsandbytes has
// them. What it is in memory: native/ops/adamw/adamw_step.h.

/** Numbers that share a scale. */
export const MOMENT_BLOCK = 256;
/** The codes of a block, then its scale in float32. */
export const MOMENT_BLOCK_BYTES = MOMENT_BLOCK + 4;
const CODES = 256;

/** Bytes of a moment of `count` numbers. */
export function momentBytes(count: number): number {
  return Math.ceil(count / MOMENT_BLOCK) * MOMENT_BLOCK_BYTES;
}

/** `[momentBytes(count)]` uint8: zeros, of a moment of `count` numbers. */
export function zeroMoment(count: number): Tensor {
  return momentOfBytes(new Uint8Array(momentBytes(count)));
}

/** The value of each code, by moment: the dynamic type of bitsandbytes. */
const VALUES = { first: SCALE_VALUES, second: UNSIGNED_VALUES };
let tables: Tensor | null = null;

/** `[2, 256]` float32: what the codes of the first and of the second moment stand for. Made once. */
export function momentTables(): Tensor {
  tables ??= keep(scope(() => tensorOf(Float32Array.of(...VALUES.first, ...VALUES.second), [2, CODES])));
  return tables;
}

/** @param moment `[momentBytes(count)]` uint8, which the binding can read only as numbers of four bytes */
export function bytesOfMoment(moment: Tensor): Uint8Array {
  const words = scope(() => toFloat32Array(bytesAsFloat32(reshape(moment, [moment.size / 4, 4]))));
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** @param bytes as {@link bytesOfMoment} gives them */
export function momentOfBytes(bytes: Uint8Array): Tensor {
  return tensorOfBytes(bytes, [bytes.length], 'uint8');
}

/**
 * The numbers of a moment in 8 bits.
 * @returns `[count]` float32
 */
export function decodedMoment(moment: Tensor, which: keyof typeof VALUES, count: number): Tensor {
  const bytes = bytesOfMoment(moment);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const block = Math.floor(i / MOMENT_BLOCK) * MOMENT_BLOCK_BYTES;
    numbers[i] = VALUES[which][bytes[block + (i % MOMENT_BLOCK)]!]! * view.getFloat32(block + MOMENT_BLOCK, true);
  }
  return tensorOf(numbers, [count]);
}

/**
 * A moment in 8 bits.
 * @param moment `[count]` float32
 * @returns `[momentBytes(count)]` uint8
 */
export function encodedMoment(moment: Tensor, which: keyof typeof VALUES): Tensor {
  const numbers = toFloat32Array(moment);
  const bytes = new Uint8Array(momentBytes(numbers.length));
  const view = new DataView(bytes.buffer);
  for (let first = 0, block = 0; first < numbers.length; first += MOMENT_BLOCK, block += MOMENT_BLOCK_BYTES) {
    const own = numbers.subarray(first, first + MOMENT_BLOCK);
    const scale = own.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
    for (const [i, number] of own.entries()) bytes[block + i] = codeOf(number, scale, VALUES[which]);
    view.setFloat32(block + MOMENT_BLOCK, scale, true);
  }
  return momentOfBytes(bytes);
}

/** MomentCode of native/ops/adamw/adamw_step.h. */
function codeOf(number: number, scale: number, values: Float32Array): number {
  if (scale === 0) return 0;
  const ratio = Math.fround(number / scale);
  let code = 0;
  for (let step = CODES / 2; step >= 1; step /= 2) {
    const [below = 0, above = 0] = values.subarray(code + step - 1, code + step + 1);
    if (Math.fround(Math.fround(below + above) / 2) < ratio) code += step;
  }
  return code === 0 && number > 0 ? 1 : code;
}
