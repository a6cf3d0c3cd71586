import { expect, test } from 'vitest';
import { addon } from './addon.js';

// What the best instructions make is compared with bitsandbytes: packages/models/src/quantize-on-load.test.ts.

const COUNT = 64 * 300 + 37;
const DTYPES = ['F32', 'F16', 'BF16'];

/** Random patterns of bits, among them infinities, NaN and numbers below the smallest normal one; blocks of zeros of both signs. */
function patterns(bytes: number): Uint8Array {
  let state = 7;
  const all = Uint8Array.from({ length: bytes }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
  all.fill(0, 0, 1024);
  for (let i = 3; i < 512; i += 4) all[i] = 0x80;
  return all;
}

/** Numbers from -1 to 1, of which all codes are made. */
function weights(dtype: string): Uint8Array {
  const numbers = Float32Array.from({ length: COUNT }, (_, i) => Math.sin(i * i + 1));
  const bits = new Uint32Array(numbers.buffer);
  if (dtype === 'F32') return new Uint8Array(bits.buffer);
  const half = (one: number) => ((one >>> 16) & 0x8000) | (((one & 0x7fffffff) - 0x38000000) >>> 13);
  return new Uint8Array(Uint16Array.from(bits, (one) => (dtype === 'BF16' ? one >>> 16 : half(one))).buffer);
}

test.each(DTYPES)('every instruction set quantizes %s to the same bytes', (dtype) => {
  const width = dtype === 'F32' ? 4 : 2;
  for (const [numbers, leastCodes] of [
    [patterns(COUNT * width), 2],
    [weights(dtype), 200],
  ] as const) {
    const made = addon.quantizers().map((instructions) => {
      const codes = new Uint8Array(Math.ceil(COUNT / 2));
      const scales = new Float32Array(Math.ceil(COUNT / 64));
      expect(addon.quantizeNumbers(instructions, DTYPES.indexOf(dtype), numbers, codes, scales)).toBe(true);
      return { instructions, codes: Buffer.from(codes), scales: Buffer.from(scales.buffer) };
    });
    const [best, ...others] = made;
    expect(new Set(best!.codes).size).toBeGreaterThan(leastCodes);
    for (const other of others) {
      expect(Buffer.compare(other.codes, best!.codes), other.instructions).toBe(0);
      expect(Buffer.compare(other.scales, best!.scales), other.instructions).toBe(0);
    }
  }
});
