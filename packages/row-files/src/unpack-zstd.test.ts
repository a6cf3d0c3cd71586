import { readFileSync } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { unzstd } from './unpack-zstd.js';

/** The lines that make.py wrote. */
const LINES = Array.from({ length: 8_000 }, (_, i) => `{"prompt": "p${i}", "completion": "c${i * i}"}\n`).join('');

const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}.zst`, import.meta.url));

/** The content of a file, or its error; checked to be the same for any chunks. */
async function unpacked(bytes: Buffer): Promise<string> {
  const results = [7, 1_000_000].map(async (size) => {
    async function* chunks() {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    }
    const parts: Buffer[] = [];
    try {
      for await (const part of unzstd(chunks())) parts.push(part);
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      return `${error.code}: ${error.message}`;
    }
    return Buffer.concat(parts).toString();
  });
  const [first, second] = await Promise.all(results);
  expect(second).toBe(first);
  return first!;
}

test.each(['level-3', 'ultra', 'no-check'])('%s.zst has the lines that were written', async (name) => {
  expect((await unpacked(fixture(name))) === LINES).toBe(true);
});

test('frames follow one another, and skippable ones are skipped', async () => {
  const small = fixture('file.jsonl');
  const skippable = Buffer.from('\x53\x2a\x4d\x18\x03\0\0\0abc', 'latin1');
  const text = `${LINES.split('\n').slice(0, 30).join('\n')}\n`;
  expect(await unpacked(small)).toBe(text);
  expect(await unpacked(Buffer.concat([skippable, small, skippable, small]))).toBe(text + text);
  expect(await unpacked(Buffer.alloc(0))).toBe('');
});

const HEAD = '28b52ffd';
const frame = (hex: string) => Buffer.from(HEAD + hex.replaceAll(' ', ''), 'hex');

describe('a file is refused', () => {
  test.each([
    ['that needs a large window', fixture('long'), 'It needs a window of 268435456 bytes; at most 134217728'],
    ['of one segment that is large', frame('a0 00000010 010000'), 'It needs a window of 268435456 bytes'],
    ['of one segment of 2^64 bytes', frame('e0 ffffffffffffffff 010000'), 'It needs a window of'],
    ['that needs a dictionary', frame('21 07 01 010000'), 'It needs a dictionary.'],
    ['that is cut off', fixture('level-3').subarray(0, -5), 'damaged or incomplete (It ends too early)'],
    ['that is cut off in its header', frame(''), 'It ends too early'],
    [
      'with something behind it',
      Buffer.concat([fixture('file.jsonl'), Buffer.from('more')]),
      'something after a frame',
    ],
    ['with a block of a type that is reserved', frame('20 01 070000'), 'a block that is none'],
    ['with a block of 2 MB', frame('20 01 fbffff 00'), 'a block that is none'],
    ['with a damaged block', frame('20 0a 55 0000 ffffffffffffffffffff'), 'damaged or incomplete'],
  ])('%s', async (_name, bytes, part) => {
    expect(await unpacked(bytes)).toContain(part);
  });

  test('a file is refused whose checksum is not that of its content', async () => {
    const bytes = fixture('file.jsonl');
    bytes[bytes.length - 1]! ^= 1;
    expect(await unpacked(bytes)).toContain('Its checksum is wrong');
  });
});

test('few blocks are decoded at once, however much comes out of them', async () => {
  const block = (isLast: number) =>
    `${(((2 ** 17) << 3) | 2 | isLast)
      .toString(16)
      .padStart(6, '0')
      .replace(/(..)(..)(..)/, '$3$2$1')}61`;
  const sizes: number[] = [];
  async function* chunks() {
    yield frame(`00 58 ${block(0).repeat(99)} ${block(1)}`);
  }
  for await (const part of unzstd(chunks())) sizes.push(part.length);
  expect(sizes.reduce((sum, size) => sum + size)).toBe(100 * 2 ** 17);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(4 * 2 ** 17);
});
