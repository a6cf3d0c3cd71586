import { createHash } from 'node:crypto';
import { type FileHandle, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  mergeInstructions,
  type TensorSource,
  type WeightUpdate,
  type WriteMergedOptions,
  writeMerged,
} from './write-merged.js';

let folder: string;
let handles: FileHandle[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'write-merged-'));
  handles = [];
});
afterEach(async () => {
  for (const handle of handles) await handle.close();
  await rm(folder, { recursive: true });
});

const opened = async (name: string, flags: string) => {
  const handle = await open(join(folder, name), flags);
  handles.push(handle);
  return handle.fd;
};

/** Bytes that differ from each other, and with them an infinity or NaN only where a test wants one. */
const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i) * 2 ** (i % 7));

/** Writes these tensors from one file, and returns the file behind the header. */
async function merged(
  tensors: { bytes: Uint8Array; update?: WeightUpdate }[],
  options: Partial<WriteMergedOptions> = {},
): Promise<Uint8Array> {
  await writeFile(join(folder, 'base'), Buffer.concat(tensors.map(({ bytes }) => bytes)));
  const fd = await opened('base', 'r');
  const header = Buffer.from('a header');
  let offset = 0;
  const sources = tensors.map(({ bytes, update }) => {
    const source = { fd, offset, bytes: bytes.byteLength, ...(update && { update }) };
    offset += bytes.byteLength;
    return source;
  });
  const output = await opened('merged', 'w');
  const sha256 = await writeMerged({ output, header, tensors: sources, ...options });
  const written = await readFile(join(folder, 'merged'));
  expect(createHash('sha256').update(written).digest('hex')).toBe(sha256);
  expect(written.subarray(0, header.byteLength)).toEqual(header);
  return Uint8Array.from(written.subarray(header.byteLength));
}

/** Writes these sources, and returns the file. */
async function writtenOf(tensors: TensorSource[]): Promise<Uint8Array> {
  const output = await opened('converted', 'w');
  await writeMerged({ output, header: new Uint8Array(), tensors });
  return Uint8Array.from(await readFile(join(folder, 'converted')));
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

test('a small example with known results, in both layouts', async () => {
  const update = {
    dtype: 'F32',
    a: Float32Array.of(1, 0, 2, 0, 3, 0),
    b: Float32Array.of(1, 0, 0, 0, 0, 2, 1, 1),
  } as const;
  const sizes = { rank: 2, scale: 4 / 2 };
  const result = await merged([
    {
      bytes: bytesOf(Float32Array.of(1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)),
      update: { ...update, ...sizes, shape: [4, 3], transposed: false },
    },
    {
      bytes: bytesOf(Float32Array.of(1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4)),
      update: { ...update, ...sizes, shape: [3, 4], transposed: true },
    },
  ]);
  expect([...new Float32Array(result.buffer)]).toEqual([
    ...[3, 1, 5, 2, 2, 2, 3, 15, 3, 6, 10, 8],
    ...[3, 2, 3, 6, 1, 2, 15, 10, 5, 2, 3, 8],
  ]);
});

test.each([1, 2, 7])('tensors of many pieces keep their order with %d threads', async (threads) => {
  const large = numbers(1_300_001);
  const update: WeightUpdate = {
    ...{ dtype: 'F32', shape: [1_300, 1_000], transposed: false, rank: 1, scale: 1 },
    ...{ a: new Float32Array(1_000).fill(1), b: Float32Array.from({ length: 1_300 }, (_, row) => row) },
  };
  const weight = numbers(1_300_000);
  const progress: number[] = [];
  const result = await merged(
    [
      { bytes: bytesOf(large) },
      { bytes: bytesOf(weight), update },
      { bytes: new Uint8Array() },
      { bytes: Buffer.from('end') },
    ],
    { threads, onProgress: (bytes) => progress.push(bytes) },
  );
  const expected = weight.map((value, index) => value + Math.floor(index / 1_000));
  expect(Buffer.compare(result, Buffer.concat([bytesOf(large), bytesOf(expected), Buffer.from('end')]))).toBe(0);
  expect(progress.at(-1)).toBe(result.byteLength);
});

test.each(['F32', 'F16', 'BF16'] as const)('every set of instructions gives the same bytes in %s', async (dtype) => {
  const [height, width, rank] = [67, 131, 9];
  const weight = Uint8Array.from(
    { length: height * width * (dtype === 'F32' ? 4 : 2) },
    (_, i) => (i * 37 + (i >> 8)) & 0x3b,
  );
  for (const transposed of [false, true]) {
    const [a, b] = [numbers(rank * (transposed ? height : width)), numbers(rank * (transposed ? width : height))];
    const update = { dtype, shape: [height, width] as const, transposed, a, b, rank, scale: 1 / 3 };
    const results = [];
    for (const instructions of mergeInstructions())
      results.push(await merged([{ bytes: weight, update }], { instructions }));
    expect(results[0]).not.toEqual(weight);
    for (const result of results) expect(Buffer.compare(result, results[0]!)).toBe(0);
  }
});

test('what is wrong: the tensor whose numbers are not finite, a file that ends, an output that cannot be written', async () => {
  const update: WeightUpdate = {
    ...{ dtype: 'F32', shape: [1, 1], transposed: false, rank: 1, scale: 1 },
    ...{ a: Float32Array.of(3e38), b: Float32Array.of(1) },
  };
  const good = { bytes: bytesOf(Float32Array.of(1)), update };
  const fault = (tensors: Parameters<typeof merged>[0]) => merged(tensors).catch((error: unknown) => error);
  expect(await fault([good, { ...good, bytes: bytesOf(Float32Array.of(3e38)) }])).toMatchObject({
    index: 1,
    fault: 'not-finite',
  });
  expect(await fault([{ ...good, bytes: bytesOf(Float32Array.of(Number.NaN)) }])).toMatchObject({ index: 0 });
  const half = (bits: number) => new Uint8Array(Uint16Array.of(bits).buffer);
  for (const [dtype, bits] of [
    ['BF16', 0x7f7f],
    ['F16', 0x7bff],
  ] as const) {
    const added = { ...update, dtype, a: Float32Array.of(dtype === 'F16' ? 16 : 2 ** 119) };
    expect(await fault([{ bytes: half(bits), update: added }])).toMatchObject({ index: 0, fault: 'not-finite' });
  }
  const fd = await opened('base', 'r');
  const header = Buffer.alloc(0);
  const writing = (output: number, offset: number) =>
    writeMerged({ output, header, tensors: [{ fd, offset, bytes: 2 }] });
  await expect(writing(await opened('merged', 'r+'), 9)).rejects.toMatchObject({ index: 0, fault: 'truncated' });
  await expect(writing(await opened('merged', 'r'), 0)).rejects.toMatchObject({ code: 'EBADF', syscall: 'write' });
  await expect(merged([{ ...good, update: { ...update, rank: 2 } }])).rejects.toThrow(RangeError);
});

test('Q8_0 has the blocks of gguf-py, from each dtype', async () => {
  const path = new URL('../../export/src/fixtures/converted/quantize.json', import.meta.url);
  const { numbers: text, blocks } = JSON.parse(await readFile(path, 'utf8'));
  const content = Buffer.from(text, 'base64');
  const conversion = { from: 'F32', to: 'Q8_0', shape: [64, 32] } as const;
  const written = await writtenOf([{ content, conversion }]);
  expect(Buffer.compare(written, Buffer.from(blocks, 'base64'))).toBe(0);
});

test('rows are transposed, interleaved and added to, also where they are merged', async () => {
  const [rows, width] = [6, 4];
  const weight = numbers(rows * width);
  const fd = await opened('base', 'w+');
  await handles.at(-1)!.write(bytesOf(weight), 0, weight.byteLength, 0);
  const a = Float32Array.of(1, 2, 3, 4, 5, 6);
  const b = Float32Array.of(1, 10, 100, 1000);
  const update = { dtype: 'F32', shape: [width, rows], transposed: false, a, b, rank: 1, scale: 2 } as const;
  const shape = [rows, width] as const;
  const stored = { fd, offset: 0, bytes: weight.byteLength };
  const conversion = { from: 'F32', to: 'F32', shape, transposed: true, headRows: 4, added: 1 } as const;
  const written = new Float32Array((await writtenOf([{ ...stored, update, conversion }])).buffer);
  const row = (column: number) =>
    Array.from({ length: rows }, (_, index) =>
      Math.fround(Math.fround(weight[index * width + column]! + 2 * a[index]! * b[column]!) + 1),
    );
  // Of a head of four rows, the first half goes to even places.
  expect([...written]).toEqual([...row(0), ...row(2), ...row(1), ...row(3)]);
});

test('rows and columns are written in another order, or some of the rows, also where they are merged', async () => {
  const [rows, width] = [6, 4];
  const weight = numbers(rows * width);
  const fd = await opened('base', 'w+');
  await handles.at(-1)!.write(bytesOf(weight), 0, weight.byteLength, 0);
  const a = Float32Array.of(1, 10, 100, 1000);
  const b = Float32Array.of(1, 2, 3, 4, 5, 6);
  const update = { dtype: 'F32', shape: [rows, width], transposed: false, a, b, rank: 1, scale: 2 } as const;
  const rowOrder = [
    { first: 4, count: 2 },
    { first: 0, count: 1 },
  ];
  const columnOrder = [
    { first: 3, count: 1 },
    { first: 0, count: 3 },
  ];
  const conversion = { from: 'F32', to: 'F32', shape: [rows, width], rowOrder, columnOrder } as const;
  const tensor = { fd, offset: 0, bytes: weight.byteLength, update, conversion };
  // What is behind it lies where it is meant to.
  const behind = bytesOf(Float32Array.of(7));
  const written = new Float32Array((await writtenOf([tensor, { content: behind }])).buffer);
  const row = (index: number) =>
    [3, 0, 1, 2].map((column) => Math.fround(weight[index * width + column]! + 2 * a[column]! * b[index]!));
  expect([...written]).toEqual([...row(4), ...row(5), ...row(0), 7]);
});

test('one row of each group is written, over pieces of the file, also of a weight that is transposed and merged', async () => {
  const of = 3;
  const [groups, width] = [60_000, 4];
  const many = numbers(groups * of * width);
  for (const index of [0, 2]) {
    const conversion = { from: 'F32', to: 'F32', shape: [groups * of, width], rowOfEach: { index, of } } as const;
    const written = new Float32Array((await writtenOf([{ content: bytesOf(many), conversion }])).buffer);
    const expected = Array.from({ length: groups }, (_, group) => {
      const first = (group * of + index) * width;
      return many.subarray(first, first + width);
    });
    expect(Buffer.compare(bytesOf(written), Buffer.concat(expected.map(bytesOf)))).toBe(0);
  }
  const rows = 6;
  const weight = numbers(rows * width);
  const fd = await opened('base', 'w+');
  await handles.at(-1)!.write(bytesOf(weight), 0, weight.byteLength, 0);
  const [a, b] = [Float32Array.of(1, 2, 3, 4, 5, 6), Float32Array.of(1, 10, 100, 1000)];
  const update = { dtype: 'F32', shape: [width, rows], transposed: false, a, b, rank: 1, scale: 2 } as const;
  const conversion = { from: 'F32', to: 'F32', shape: [rows, width], transposed: true } as const;
  const stored = { fd, offset: 0, bytes: weight.byteLength, update };
  const halves = [0, 1].map((index) => ({ ...stored, conversion: { ...conversion, rowOfEach: { index, of: 2 } } }));
  const written = new Float32Array((await writtenOf(halves)).buffer);
  const row = (column: number) =>
    Array.from({ length: rows }, (_, index) =>
      Math.fround(weight[index * width + column]! + 2 * a[index]! * b[column]!),
    );
  expect([...written]).toEqual([...row(0), ...row(2), ...row(1), ...row(3)]);
});

test('a weight in MXFP4 stays so as ggml has it, or is decoded, with one row of each group', async () => {
  const [rows, width] = [4, 64];
  const codes = Uint8Array.from({ length: (rows * width) / 2 }, (_, i) => (i * 37 + (i >> 4)) & 255);
  const exponents = Uint8Array.from({ length: (rows * width) / 32 }, (_, i) => 120 + i);
  const fd = await opened('base', 'w+');
  await handles.at(-1)!.write(Buffer.concat([codes, exponents]), 0, undefined, 0);
  const quantized = {
    shape: [rows, width],
    exponents: { fd, offset: codes.byteLength, bytes: exponents.byteLength },
  } as const;
  const stored = { fd, offset: 0, bytes: codes.byteLength, quantized };
  const conversion = { from: 'BF16', shape: [width, rows], transposed: true } as const;
  const code = (i: number) => (i % 2 === 0 ? codes[i >> 1]! & 15 : codes[i >> 1]! >> 4);
  const odd = { rowOfEach: { index: 1, of: 2 } };
  const kept = await writtenOf([{ ...stored, conversion: { ...conversion, to: 'MXFP4', ...odd } }]);
  const blocks = [1, 3].flatMap((row) => [row * 2, row * 2 + 1]);
  expect([...kept]).toEqual(
    blocks.flatMap((block) => [
      exponents[block]!,
      ...Array.from({ length: 16 }, (_, i) => code(block * 32 + i) | (code(block * 32 + i + 16) << 4)),
    ]),
  );
  const values = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
  const number = (i: number) => values[code(i) & 7]! * (code(i) < 8 ? 1 : -1) * 2 ** (exponents[i >> 5]! - 127);
  const decoded = await writtenOf([
    { ...stored, conversion: { ...conversion, to: 'F32', ...odd } },
    { ...stored, conversion: { ...conversion, to: 'F32' } },
  ]);
  const all = [1, 3, 0, 1, 2, 3].flatMap((row) => Array.from({ length: width }, (_, i) => number(row * width + i)));
  expect([...new Float32Array(decoded.buffer)]).toEqual(all);
  const update: WeightUpdate = {
    ...{ dtype: 'BF16', shape: [rows, width], transposed: false, rank: 1, scale: 1 },
    ...{ a: new Float32Array(width), b: new Float32Array(rows) },
  };
  const wrong = { ...stored, update, conversion: { ...conversion, to: 'MXFP4' } as const };
  await expect(writtenOf([wrong])).rejects.toThrow(RangeError);
});

test('a weight that is quantized here is decoded before it is transposed', async () => {
  const [rows, width] = [6, 128];
  const weight = numbers(rows * width);
  const fd = await opened('base', 'w+');
  await handles.at(-1)!.write(bytesOf(weight), 0, weight.byteLength, 0);
  const shape = [rows, width] as const;
  const stored = { fd, offset: 0, bytes: weight.byteLength, quantized: { shape, numbers: 'F32' } } as const;
  const decoded = new Uint16Array((await writtenOf([stored])).buffer);
  const conversion = { from: 'BF16', to: 'BF16', shape, transposed: true } as const;
  const odd = { ...conversion, rowOfEach: { index: 1, of: 2 } };
  const converted = [conversion, odd].map((each) => ({ ...stored, conversion: each }));
  const written = new Uint16Array((await writtenOf(converted)).buffer);
  const columnsOf = (columns: number[]) =>
    columns.flatMap((column) => Array.from({ length: rows }, (_, row) => decoded[row * width + column]!));
  const all = Array.from({ length: width }, (_, column) => column);
  expect([...written]).toEqual([...columnsOf(all), ...columnsOf(all.filter((column) => column % 2 === 1))]);
});

test('a conversion that does not fit is refused, and one that is not finite named', async () => {
  const content = bytesOf(Float32Array.of(1e6, 1, 1, 1));
  const shape = [1, 4] as const;
  const none = { first: 0, count: 0 };
  for (const wrong of [
    ...([{ to: 'Q8_0' }, { to: 'MXFP4' }, { headRows: 3 }, { shape: [1, 5] }] as const),
    ...[{ rowOfEach: { index: 0, of: 2 } }, { rowOfEach: { index: 1, of: 1 } }, { rowOfEach: { index: 0, of: 0 } }],
    { rowOfEach: { index: 0, of: 1 }, transposed: true, rowOrder: [{ first: 0, count: 1 }] },
    ...[{ rowOrder: [{ first: 1, count: 1 }] }, { rowOrder: [none] }, { columnOrder: [{ first: 0, count: 3 }] }],
    ...[{ columnOrder: [{ first: 1, count: 4 }] }, { rowOrder: [{ first: 0, count: 1 }], transposed: true }],
  ]) {
    await expect(writtenOf([{ content, conversion: { from: 'F32', to: 'F32', shape, ...wrong } }])).rejects.toThrow(
      RangeError,
    );
  }
  const fault = { index: 1, fault: 'not-finite' };
  const conversion = { from: 'F32', to: 'F16', shape } as const;
  await expect(writtenOf([{ content }, { content, conversion }])).rejects.toMatchObject(fault);
});

test('stops when it is aborted', async () => {
  const controller = new AbortController();
  const bytes = 64 * 2 ** 20;
  await writeFile(join(folder, 'base'), new Uint8Array(bytes));
  const [fd, output] = [await opened('base', 'r'), await opened('merged', 'w')];
  // While the work is prepared, so that it cannot have ended before.
  const tensor = {
    ...{ fd, offset: 0 },
    get bytes() {
      controller.abort(new Error('enough'));
      return bytes;
    },
  };
  const options = { output, header: new Uint8Array(), tensors: [tensor], signal: controller.signal, threads: 1 };
  await expect(writeMerged(options)).rejects.toThrow('enough');
});
