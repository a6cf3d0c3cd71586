import { describe, expect, test } from 'vitest';
import { MessageReader } from './message-reader.js';
import { MessageWriter } from './message-writer.js';
import { WireError } from './wire-error.js';

const readerOf = (...bytes: number[]) => new MessageReader(Uint8Array.from(bytes), 'message');

describe('a message', () => {
  test.each([0, 1, 127, 128, 300, 2 ** 31, 2 ** 49 - 1, 2 ** 49, Number.MAX_SAFE_INTEGER, -1, -(2 ** 31)])(
    'has the integer %d that was written',
    (value) => {
      const reader = new MessageReader(new MessageWriter().integer(3, value).finish(), 'message');
      expect(reader.next()).toBe(true);
      expect([reader.field, reader.integer('value')]).toEqual([3, value]);
      expect(reader.next()).toBe(false);
    },
  );

  test('has the numbers, texts, bytes and messages that were written', () => {
    const inner = new MessageWriter().text(1, 'größe').double(2, -0.1);
    const written = new MessageWriter().message(1, inner).integers(2, [1, -1, 300]).bytes(3, Uint8Array.of(7));
    const reader = new MessageReader(written.finish(), 'message');
    reader.next();
    const innerReader = new MessageReader(reader.bytes('inner'), 'inner');
    innerReader.next();
    expect(innerReader.text('text')).toBe('größe');
    innerReader.next();
    expect(innerReader.double('number')).toBe(-0.1);
    reader.next();
    const integers: number[] = [];
    reader.integers('integers', (value) => integers.push(value));
    expect(integers).toEqual([1, -1, 300]);
    reader.next();
    expect(reader.bytes('bytes')).toEqual(Uint8Array.of(7));
    expect(reader.next()).toBe(false);
  });

  test('is read past fields that are not known', () => {
    const written = new MessageWriter()
      .integer(9, 300)
      .double(10, 1)
      .bytes(11, Uint8Array.of(1, 2))
      .integer(1, 5)
      .finish();
    const fixed32 = Uint8Array.of(12 * 8 + 5, 0, 0, 0, 0);
    const reader = new MessageReader(Uint8Array.of(...fixed32, ...written), 'message');
    while (reader.next() && reader.field !== 1) reader.skip();
    expect(reader.integer('value')).toBe(5);
  });

  test.each([
    { title: 'a group', bytes: [0x0b], message: 'message field 1: has the wire type 3, which is not supported' },
    {
      title: 'an unknown wire type',
      bytes: [0x0e],
      message: 'message field 1: has the wire type 6, which is not supported',
    },
    { title: 'a field number 0', bytes: [0x00], message: 'message: has the field number 0' },
    { title: 'a truncated varint', bytes: [0x08, 0x80], message: 'message field 1: is truncated' },
    { title: 'a truncated double', bytes: [0x09, 0, 0], message: 'message field 1: is truncated' },
    { title: 'truncated bytes', bytes: [0x0a, 5, 0], message: 'message field 1: is truncated' },
    {
      title: 'a negative length',
      bytes: [0x0a, ...new Array<number>(9).fill(0xff), 1],
      message: 'message field 1: has a negative length',
    },
    {
      title: 'a varint without end',
      bytes: [0x08, ...new Array<number>(11).fill(0xff)],
      message: 'message field 1: has a varint of more than 10 bytes',
    },
    {
      title: 'an integer that a number does not hold',
      bytes: [0x08, ...new Array<number>(8).fill(0xff), 0x7f],
      message: 'message field 1: has an integer beyond 53 bits',
    },
  ])('is refused with $title', ({ bytes, message }) => {
    const read = () => {
      const reader = readerOf(...bytes);
      while (reader.next()) reader.skip();
    };
    expect(read).toThrow(WireError);
    expect(read).toThrow(message);
  });

  test('is refused if a field has another wire type, or a text is not UTF-8', () => {
    const integer = readerOf(0x08, 1);
    integer.next();
    expect(() => integer.bytes('name')).toThrow('name: has the wire type 0, and must have 2');
    const text = readerOf(0x0a, 1, 0xff);
    text.next();
    expect(() => text.text('name')).toThrow('name: is not UTF-8');
  });
});
