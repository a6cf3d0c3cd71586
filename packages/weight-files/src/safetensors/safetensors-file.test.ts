import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toFloat32 } from './dtype.js';
import { safetensorsHeader } from './header.js';
import { openSafetensors, writeSafetensors } from './safetensors-file.js';

const fixture = new URL('./fixtures/python-safetensors.safetensors', import.meta.url).pathname;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A file with this header text or header length, and this much data. */
async function fileWith(header: string | Uint8Array, dataBytes: number, claimedBytes?: bigint): Promise<string> {
  const text = typeof header === 'string' ? Buffer.from(header) : header;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimedBytes ?? BigInt(text.byteLength));
  const path = join(folder, `${Math.random()}.safetensors`);
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}

describe('a file of the reference implementation', () => {
  test('is read', async () => {
    const file = await openSafetensors(fixture);
    expect(Object.fromEntries(file.metadata)).toEqual({ format: 'pt' });
    const weight = file.tensors.get('b.weight')!;
    expect(weight).toMatchObject({ dtype: 'F32', shape: [2, 3], byteLength: 24 });
    expect([...toFloat32(await file.read('b.weight'), 'F32')]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...toFloat32(await file.read('a.half'), 'F16')]).toEqual([1, -2, 0.5]);
    expect([...toFloat32(await file.read('scalar'), 'F32')]).toEqual([3.5]);
    expect(await file.read('empty')).toHaveLength(0);
    expect(new BigInt64Array((await file.read('10')).slice().buffer)).toEqual(BigInt64Array.of(7n));
    await file.close();
  });

  test('is written byte for byte the same', async () => {
    const file = await openSafetensors(fixture);
    const path = join(folder, 'again.safetensors');
    const tensors = [...file.tensors.values()].reverse().map(({ name, dtype, shape }) => ({
      name,
      dtype,
      shape,
      data: () => file.read(name),
    }));
    await writeSafetensors(path, tensors, { format: 'pt' });
    await file.close();
    expect(await readFile(path)).toEqual(await readFile(fixture));
  });
});

describe('reading', () => {
  test('fills a given buffer', async () => {
    const file = await openSafetensors(fixture);
    const buffer = new Uint8Array(100).fill(255);
    const bytes = await file.read('b.weight', buffer);
    expect(bytes.buffer).toBe(buffer.buffer);
    expect(bytes).toHaveLength(24);
    expect(buffer[24]).toBe(255);
    await expect(file.read('b.weight', new Uint8Array(8))).rejects.toThrow(RangeError);
    await file.close();
  });

  test('reads a piece of a tensor', async () => {
    const file = await openSafetensors(fixture);
    const piece = new Uint8Array(8);
    await file.readRange('b.weight', 16, piece);
    expect([...toFloat32(piece, 'F32')]).toEqual([4, 5]);
    await expect(file.readRange('b.weight', 20, piece)).rejects.toThrow(RangeError);
    await file.close();
  });

  test('names a missing tensor', async () => {
    const file = await openSafetensors(fixture);
    await expect(file.read('c.weight')).rejects.toMatchObject({
      code: 'tensor_not_found',
      message: expect.stringContaining('c.weight'),
    });
    await file.close();
  });

  test('detects a file that is truncated while it is open', async () => {
    const path = await fileWith('{"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}', 64);
    const file = await openSafetensors(path);
    await truncate(path, 80);
    await expect(file.read('a')).rejects.toMatchObject({ code: 'file_truncated' });
    await file.close();
  });

  test('accepts __proto__ as a name', async () => {
    const file = await openSafetensors(
      await fileWith('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    );
    expect([...file.tensors.keys()]).toEqual(['__proto__']);
    await file.close();
  });
});

describe('rejects a hostile file:', () => {
  const tensor = (name: string, begin: number, end: number, dtype = 'U8', shape = `[${end - begin}]`) =>
    `"${name}":{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

  test.each<[string, string, string, number]>([
    ['duplicate tensor', 'duplicate_key', `{${tensor('a', 0, 4)},${tensor('a', 4, 8)}}`, 8],
    [
      'duplicate tensor, written with an escape',
      'duplicate_key',
      `{${tensor('a', 0, 4)},${tensor('\\u0061', 4, 8)}}`,
      8,
    ],
    ['duplicate dtype', 'duplicate_key', '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1],
    ['duplicate metadata', 'duplicate_key', `{"__metadata__":{"x":"1","x":"2"},${tensor('a', 0, 4)}}`, 4],
    ['overlap', 'range_invalid', `{${tensor('a', 0, 4)},${tensor('b', 2, 6)}}`, 6],
    ['the same range twice', 'range_invalid', `{${tensor('a', 0, 4)},${tensor('b', 0, 4)}}`, 4],
    ['hole between', 'range_invalid', `{${tensor('a', 0, 4)},${tensor('b', 6, 8)}}`, 8],
    ['hole at the beginning', 'range_invalid', `{${tensor('a', 4, 8)}}`, 8],
    ['trailing bytes', 'range_invalid', `{${tensor('a', 0, 4)}}`, 5],
    ['past the end', 'file_truncated', `{${tensor('a', 0, 400)}}`, 8],
    ['end before begin', 'size_mismatch', `{${tensor('a', 4, 0, 'U8', '[4]')}}`, 4],
    ['negative offset', 'entry_invalid', `{${tensor('a', -4, 0, 'U8', '[4]')}}`, 4],
    ['size that does not match', 'size_mismatch', `{${tensor('a', 0, 4, 'F32', '[2]')}}`, 4],
    ['product that overflows', 'size_mismatch', `{${tensor('a', 0, 0, 'F32', '[4294967296,4294967296,0]')}}`, 0],
    [
      'product that overflows to the correct size',
      'size_mismatch',
      `{${tensor('a', 0, 0, 'U8', '[4294967296,4294967296]')}}`,
      0,
    ],
    ['half a byte', 'size_mismatch', `{${tensor('a', 0, 1, 'F4', '[1]')}}`, 1],
    ['unsafe integer', 'entry_invalid', `{${tensor('a', 0, 4, 'U8', '[9007199254740993]')}}`, 4],
    ['fraction in a shape', 'entry_invalid', `{${tensor('a', 0, 4, 'U8', '[4.5]')}}`, 4],
    ['shape with 65 dimensions', 'entry_invalid', `{${tensor('a', 0, 1, 'U8', `[${Array(65).fill(1).join()}]`)}}`, 1],
    ['unknown dtype', 'entry_invalid', `{${tensor('a', 0, 4, 'toString')}}`, 4],
    ['dtype that is an object', 'entry_invalid', '{"a":{"dtype":{"toString":1},"shape":[1],"data_offsets":[0,1]}}', 1],
    [
      'dtype of great depth',
      'entry_invalid',
      `{"a":{"dtype":${'['.repeat(20_000)}${']'.repeat(20_000)},"shape":[1],"data_offsets":[0,1]}}`,
      1,
    ],
    ['name of 1,001 characters', 'entry_invalid', `{${tensor('x'.repeat(1_001), 0, 1)}}`, 1],
    ['three offsets', 'entry_invalid', '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,2,4]}}', 4],
    ['unknown key', 'entry_invalid', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":{"b":1}}}', 1],
    ['metadata that is not a string', 'entry_invalid', '{"__metadata__":{"x":1}}', 0],
    ['a list', 'header_invalid', '[]', 0],
    ['great depth', 'entry_invalid', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 0],
    ['broken JSON', 'header_invalid', '{"a":', 0],
    ['leading space', 'header_invalid', ' {}', 0],
  ])('%s', async (_, code, header, dataBytes) => {
    await expect(openSafetensors(await fileWith(header, dataBytes))).rejects.toMatchObject({
      name: 'SafetensorsError',
      code,
    });
  });

  test('invalid UTF-8', async () => {
    const header = Buffer.from(`{${tensor('a?', 0, 1)}}`);
    header[header.indexOf('?')] = 0xff;
    await expect(openSafetensors(await fileWith(header, 1))).rejects.toMatchObject({ code: 'header_invalid' });
  });

  test('a header over the limit, without allocating memory for it', async () => {
    for (const claimed of [100_000_001n, 2n ** 63n, 2n ** 64n - 1n]) {
      const path = await fileWith('{}', 0, claimed);
      await expect(openSafetensors(path)).rejects.toMatchObject({ code: 'header_too_large' });
    }
  });

  test('a header longer than the file, and a file without one', async () => {
    await expect(openSafetensors(await fileWith('{}', 0, 3n))).rejects.toMatchObject({ code: 'file_truncated' });
    const path = join(folder, 'short.safetensors');
    await writeFile(path, 'abc');
    await expect(openSafetensors(path)).rejects.toMatchObject({ code: 'file_truncated' });
  });
});

describe('writing', () => {
  test('removes the temporary file when it fails', async () => {
    const inside = await mkdtemp(join(folder, 'fail-'));
    const path = join(inside, 'x.safetensors');
    const failing = () => Promise.reject(new Error('no data'));
    await expect(writeSafetensors(path, [{ name: 'a', dtype: 'U8', shape: [4], data: failing }])).rejects.toThrow(
      'no data',
    );
    const short = { name: 'a', dtype: 'U8' as const, shape: [4], data: new Uint8Array(3) };
    await expect(writeSafetensors(path, [short])).rejects.toMatchObject({ code: 'size_mismatch' });
    expect(await readdir(inside)).toEqual([]);
  });

  test('requests one tensor at a time, in the order of the file', async () => {
    const asked: string[] = [];
    const tensor = (name: string) => ({
      name,
      dtype: 'F32' as const,
      shape: [1],
      data: async () => {
        asked.push(name);
        return new Uint8Array(4);
      },
    });
    await writeSafetensors(join(folder, 'order.safetensors'), ['c', 'a', 'b'].map(tensor));
    expect(asked).toEqual(['a', 'b', 'c']);
  });

  test('rejects duplicate names, an invalid shape, and the name of the metadata', () => {
    const named = (name: string, shape = [1]) => ({ name, dtype: 'F32' as const, shape });
    expect(() => safetensorsHeader([named('a'), named('a')])).toThrow(/"a"/);
    expect(() => safetensorsHeader([named('__metadata__')])).toThrow(/__metadata__/);
    expect(() => safetensorsHeader([named('a', [-1])])).toThrow(/shape/);
  });

  test('the header contains the location of each tensor and the size of the file', () => {
    const { header, totalBytes, entries } = safetensorsHeader([
      { name: 'b', dtype: 'BF16', shape: [3] },
      { name: 'a', dtype: 'F32', shape: [2, 2] },
    ]);
    expect(header.byteLength % 8).toBe(0);
    expect(entries.map(({ name, byteOffset }) => [name, byteOffset - header.byteLength])).toEqual([
      ['a', 0],
      ['b', 16],
    ]);
    expect(totalBytes).toBe(header.byteLength + 22);
  });
});
