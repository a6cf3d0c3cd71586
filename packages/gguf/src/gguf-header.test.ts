import { readFileSync } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { OutOfBytes } from './byte-cursor.js';
import { parseGgufHeader } from './gguf-header.js';

const tiny = new Uint8Array(readFileSync(new URL('./fixtures/tiny-llama.gguf', import.meta.url)));

// Builds GGUF files by hand, including invalid ones.
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string | Uint8Array) =>
  Buffer.concat([u64(Buffer.from(value as string).length), Buffer.from(value as string)]);
const key = (name: string | Uint8Array, type: number, ...value: Uint8Array[]) =>
  Buffer.concat([text(name), u32(type), ...value]);
const UINT32 = 4;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;
const tensor = (name: string, sizes: (number | bigint)[], type: number, offset: number | bigint) =>
  Buffer.concat([text(name), u32(sizes.length), ...sizes.map(u64), u32(type), u64(offset)]);

interface Parts {
  magic?: string;
  version?: number;
  keys?: Uint8Array[];
  tensors?: Uint8Array[];
  keyCount?: number | bigint;
  tensorCount?: number | bigint;
  dataBytes?: number;
}

function parse({ magic = 'GGUF', version = 3, keys = [], tensors = [], keyCount, tensorCount, dataBytes = 0 }: Parts) {
  const counts = [u64(tensorCount ?? tensors.length), u64(keyCount ?? keys.length)];
  const header = Buffer.concat([Buffer.from(magic), u32(version), ...counts, ...keys, ...tensors]);
  const padding = (32 - (header.length % 32)) % 32;
  return parseGgufHeader(header, header.length + padding + dataBytes, 'x.gguf');
}

test('reads a file of gguf-py', () => {
  const { metadata, tensors } = parseGgufHeader(tiny, tiny.length, 'tiny-llama.gguf');
  expect(metadata.get('general.architecture')).toBe('llama');
  expect(metadata.get('llama.embedding_length')).toBe(256);
  expect(metadata.get('llama.attention.layer_norm_rms_epsilon')).toBe(Math.fround(1e-5));
  expect((metadata.get('tokenizer.ggml.tokens') as string[]).slice(0, 2)).toEqual(['<|end|>', '<|user|>']);
  expect(tensors.get('token_embd.weight')).toMatchObject({ shape: [103, 256], byteLength: 103 * 210 });
  const last = [...tensors.values()].at(-1)!;
  expect(last.byteOffset + last.byteLength).toBeLessThanOrEqual(tiny.length);
});

test('values of every width, and two tensors', () => {
  const wide = Buffer.alloc(8);
  wide.writeDoubleLE(0.1);
  const { metadata, tensors } = parse({
    keys: [
      key('u8', 0, Buffer.from([200])),
      key('i8', 1, Buffer.from([200])),
      key('u16', 2, Buffer.from([1, 2])),
      key('i16', 3, Buffer.from([0xff, 0xff])),
      key('u64', 10, u64(2n ** 53n)),
      key('i64', 11, u64(2n ** 64n - 1n)),
      key('f64', 12, wide),
      key('flag', BOOL, Buffer.from([1])),
      key('__proto__', STRING, text('a name like any other')),
      key('list', ARRAY, u32(UINT32), u64(2), u32(7), u32(8)),
    ],
    tensors: [tensor('a', [32, 2], 8, 0), tensor('b', [4], 0, 96)],
    dataBytes: 112,
  });
  expect(Object.fromEntries([...metadata].filter(([name]) => name !== '__proto__'))).toEqual({
    u8: 200,
    i8: -56,
    u16: 513,
    i16: -1,
    u64: 2n ** 53n,
    i64: -1,
    f64: 0.1,
    flag: true,
    list: [7, 8],
  });
  expect(metadata.get('__proto__')).toBe('a name like any other');
  expect(tensors.get('a')).toMatchObject({ shape: [2, 32], byteLength: 68 });
  expect(tensors.get('b')!.byteOffset - tensors.get('a')!.byteOffset).toBe(96);
});

describe('rejects a hostile file:', () => {
  const data = { dataBytes: 128 };
  test.each<[string, RegExp, Parts]>([
    ['no magic', /GGUF/, { magic: 'PK\x03\x04' }],
    ['version 1', /version 1/, { version: 1 }],
    ['future version', /version 4/, { version: 4 }],
    ['big-endian', /big-endian/, { version: 0x03000000 }],
    ['key count', /metadata keys/, { keyCount: 2n ** 63n }],
    ['tensor count', /tensors/, { tensorCount: 65_537 }],
    ['long key', /a key/, { keyCount: 1, keys: [u64(65_536)] }],
    ['endless string', /bytes for the value of "a"/, { keys: [key('a', STRING, u64(2n ** 64n - 1n))] }],
    ['endless array', /elements for "a"/, { keys: [key('a', ARRAY, u32(UINT32), u64(2n ** 40n))] }],
    ['array of arrays', /array of arrays/, { keys: [key('a', ARRAY, u32(ARRAY), u64(1))] }],
    ['unknown value type', /unknown type 13/, { keys: [key('a', 13)] }],
    ['unknown element type', /unknown type 99/, { keys: [key('a', ARRAY, u32(99), u64(1))] }],
    ['key twice', /"a" twice/, { keys: [key('a', UINT32, u32(1)), key('a', UINT32, u32(2))] }],
    ['invalid UTF-8', /not UTF-8/, { keys: [key('a', STRING, text(new Uint8Array([0xff])))] }],
    ['invalid UTF-8 in a key', /not UTF-8/, { keys: [key(new Uint8Array([0xc0, 0x80]), UINT32, u32(1))] }],
    ['invalid boolean', /boolean 2/, { keys: [key('a', BOOL, Buffer.from([2]))] }],
    ['alignment 0', /alignment 0/, { keys: [key('general.alignment', UINT32, u32(0))] }],
    ['alignment of 4 GB', /alignment/, { keys: [key('general.alignment', UINT32, u32(2 ** 31))] }],
    ['no dimensions', /0 dimensions/, { ...data, tensors: [tensor('a', [], 0, 0)] }],
    ['five dimensions', /5 dimensions/, { ...data, tensors: [tensor('a', [1, 1, 1, 1, 1], 0, 0)] }],
    ['size 0', /size 0/, { ...data, tensors: [tensor('a', [0], 0, 0)] }],
    ['size of 2^64 - 1', /size 18446744073709551615/, { ...data, tensors: [tensor('a', [2n ** 64n - 1n], 0, 0)] }],
    ['product that overflows', /does not fit/, { ...data, tensors: [tensor('a', [2 ** 32, 2 ** 32], 0, 0)] }],
    [
      'product that overflows to 0',
      /does not fit/,
      { ...data, tensors: [tensor('a', [2 ** 32, 2 ** 32, 2 ** 32], 1, 0)] },
    ],
    ['past the end', /ends before/, { ...data, tensors: [tensor('a', [32], 0, 32)] }],
    ['offset of 2^64 - 32', /ends before/, { ...data, tensors: [tensor('a', [1], 0, 2n ** 64n - 32n)] }],
    ['not aligned', /not aligned/, { ...data, tensors: [tensor('a', [1], 0, 4)] }],
    ['overlap', /over/, { ...data, tensors: [tensor('a', [16], 0, 0), tensor('b', [8], 0, 32)] }],
    ['tensor twice', /"a" twice/, { ...data, tensors: [tensor('a', [8], 0, 0), tensor('a', [8], 0, 32)] }],
    ['part of a block', /Q8_0 blocks/, { ...data, tensors: [tensor('a', [31], 8, 0)] }],
    ['unsupported type', /IQ2_XXS/, { ...data, tensors: [tensor('a', [256], 16, 0)] }],
    ['unknown type', /number 1000/, { ...data, tensors: [tensor('a', [256], 1000, 0)] }],
  ])('%s', (_, message, parts) => {
    expect(() => parse(parts)).toThrow(ProductError);
    expect(() => parse(parts)).toThrow(message);
  });
});

test('a truncated header throws OutOfBytes, wherever it ends', () => {
  const { tensors } = parseGgufHeader(tiny, tiny.length, 'x');
  const dataStart = Math.min(...[...tensors.values()].map(({ byteOffset }) => byteOffset));
  // The padding before the data is not part of the header.
  for (let length = 0; length < dataStart - 32; length += 7) {
    expect(() => parseGgufHeader(tiny.subarray(0, length), tiny.length, 'x')).toThrow(OutOfBytes);
  }
});

test('random changes result in a header or a ProductError', () => {
  let state = 12_345;
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let refused = 0;
  for (let round = 0; round < 3_000; round++) {
    const bytes = tiny.slice(0, 6_000);
    for (let flips = 1 + random(4); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
    try {
      parseGgufHeader(bytes, tiny.length, 'x');
    } catch (error) {
      if (!(error instanceof ProductError) && !(error instanceof OutOfBytes)) throw error;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(100);
});
