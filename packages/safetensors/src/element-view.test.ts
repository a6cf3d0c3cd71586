import { expect, test } from 'vitest';
import { viewAs16Bit, viewAsFloat32 } from './element-view.js';

test('aligned bytes are viewed, not copied', () => {
  const bytes = new Uint8Array([0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
  const view = viewAsFloat32(bytes);
  expect([...view]).toEqual([1, 2]);
  expect(view.buffer).toBe(bytes.buffer);
});

test('bytes at an odd offset are copied, of a Buffer too', () => {
  const buffer = Buffer.from([9, 0, 0, 0x80, 0x3f]).subarray(1);
  expect([...viewAsFloat32(buffer)]).toEqual([1]);
  expect([...viewAs16Bit(buffer)]).toEqual([0, 0x3f80]);
});

test('a broken number is refused', () => {
  expect(() => viewAs16Bit(new Uint8Array(3))).toThrow(RangeError);
  expect(() => viewAsFloat32(new Uint8Array(6))).toThrow(RangeError);
});
