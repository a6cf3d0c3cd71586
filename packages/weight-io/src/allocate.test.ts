import { expect, test } from 'vitest';
import { allocate } from './allocate.js';

test.each([0, 1, 4_096, 5 * 2 ** 20 + 1])('%d bytes of zeros, which can be written to the last', (bytes) => {
  const array = allocate(bytes);
  expect(array.byteLength).toBe(bytes);
  expect(array.every((byte) => byte === 0)).toBe(true);
  array.fill(7);
  if (bytes > 0) expect([array[0], array[bytes - 1]]).toEqual([7, 7]);
});

test('sizes that are no sizes, or more than the system has', () => {
  for (const bytes of [-1, 0.5, Number.NaN, 2 ** 32 + 1]) expect(() => allocate(bytes)).toThrow(RangeError);
});
