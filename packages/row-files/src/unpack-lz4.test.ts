import { expect, test } from 'vitest';
import { unpackLz4Block, unpackLz4Page } from './unpack-lz4.js';

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
/** "abc", seven times, then "de". */
const BLOCK = Buffer.from([0x3e, 0x61, 0x62, 0x63, 3, 0, 0x20, 0x64, 0x65]);
const CONTENT = `${'abc'.repeat(7)}de`;

function framed(block: Buffer, length: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(length);
  head.writeUInt32BE(block.length, 4);
  return Buffer.concat([head, block]);
}

test('a block repeats what it has begun with', () => {
  expect(text(unpackLz4Block(BLOCK, 23))).toBe(CONTENT);
});

test('long lengths go on behind the token', () => {
  const literals = Buffer.alloc(300, 'x');
  const block = Buffer.concat([Buffer.from([0xff, 255, 30]), literals, Buffer.from([1, 0, 255, 255, 0, 0])]);
  expect(text(unpackLz4Block(block, 300 + 529))).toBe('x'.repeat(829));
});

test('a page of the old codec has the frames of Hadoop, or none', () => {
  expect(text(unpackLz4Page(BLOCK, 23))).toBe(CONTENT);
  const two = Buffer.concat([framed(BLOCK, 23), framed(BLOCK, 23)]);
  expect(text(unpackLz4Page(two, 46))).toBe(CONTENT + CONTENT);
});

test.each([
  ['nothing', Buffer.alloc(0), 1, 'ends too early'],
  ['a block without its last literals', BLOCK.subarray(0, -1), 23, 'ends too early'],
  ['a block without its last token', BLOCK.subarray(0, -3), 23, 'ends too early'],
  ['a block that is longer', BLOCK, 22, 'more bytes'],
  ['a block whose match is longer', BLOCK, 20, 'more bytes'],
  ['a block that is shorter', BLOCK, 24, 'fewer bytes'],
  ['an offset of nothing', Buffer.from([0x10, 0x61, 0, 0, 0]), 6, 'before its beginning'],
  ['an offset before the block', Buffer.from([0x10, 0x61, 2, 0, 0]), 6, 'before its beginning'],
])('%s is refused', (_name, block, bytes, part) => {
  expect(() => unpackLz4Block(block, bytes)).toThrow(part);
  expect(() => unpackLz4Page(block, bytes)).toThrow(part);
});
