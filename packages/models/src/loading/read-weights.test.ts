import { createHash } from 'node:crypto';
import { truncateSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelFolder, readWeights, type WeightTarget } from '@lorasmith/model-folder';
import {
  cast,
  dispose,
  keep,
  liveTensorCount,
  scope,
  type Tensor,
  tensorOfBytes,
  tensorOfMapping,
  toFloat32Array,
} from '@lorasmith/tensor';
import { type FloatDtype, giveAway, openSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

let path: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'read-weights-'));
});
afterEach(() => rm(path, { recursive: true }));

const NAMES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;
const COUNT = 5 * 2 ** 16;
/** Larger than what a thread reads at once, and no multiple of anything. */
const WINDOW_BYTES = 700_001;

/** Every pattern of 16 bits, and of float32 also numbers between two of bfloat16; without NaN, which processors convert differently. */
function patterns(dtype: FloatDtype): Uint8Array {
  if (dtype === 'F32') {
    const low = [0, 0x8000, 0x7fff, 0x8001, 0x1234];
    const bits = Uint32Array.from({ length: COUNT }, (_, i) => ((i & 0xffff) * 2 ** 16) | low[(i >> 16) % low.length]!);
    return bytesOf(bits.map((one) => ((one & 0x7fffffff) > 0x7f800000 ? one & 0xff800000 : one)));
  }
  const infinity = dtype === 'F16' ? 0x7c00 : 0x7f80;
  const bits = Uint16Array.from({ length: COUNT }, (_, i) => i);
  return bytesOf(bits.map((one) => ((one & 0x7fff) > infinity ? infinity : one)));
}

const bytesOf = ({ buffer }: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>) => new Uint8Array(buffer);

/** A file whose data begins at an odd offset. */
async function write(name: string, tensors: Record<string, FloatDtype>): Promise<void> {
  const header: Record<string, unknown> = {};
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const [tensor, dtype] of Object.entries(tensors)) {
    const bytes = patterns(dtype);
    header[tensor] = { dtype, shape: [COUNT], data_offsets: [offset, offset + bytes.length] };
    data.push(bytes);
    offset += bytes.length;
  }
  let text = JSON.stringify(header);
  while (text.length % 2 === 0) text += ' ';
  await writeFile(
    join(path, name),
    Buffer.concat([bytesOf(Uint32Array.of(text.length, 0)), Buffer.from(text), ...data]),
  );
}

/** A folder like readModelFolder's, of files with any tensors. */
async function folderOf(...files: string[]): Promise<ModelFolder> {
  const tensors = new Map();
  for (const file of files) {
    const opened = await openSafetensors(join(path, file));
    for (const [name, entry] of opened.tensors) tensors.set(name, { file, entry });
    await opened.close();
  }
  const weights = { tensors, quantized: new Map() };
  const model = { name: 'a-model', path, files: files.map((name) => ({ name, path: join(path, name) })), ...weights };
  return model as unknown as ModelFolder;
}

async function read(folder: ModelFolder, groups: { names: string[]; dtype: 'F32' | 'BF16' }[], hash: boolean) {
  const tensors: Tensor[] = [];
  const progress: number[] = [];
  const targets = groups.map(({ names, dtype }, i): WeightTarget => {
    const onFilled: WeightTarget['onFilled'] = (region) => {
      tensors[i] = keep(tensorOfMapping(giveAway(region), [names.length * COUNT], NAMES[dtype]));
    };
    return { names, dtype, onFilled };
  });
  const digests = await readWeights(folder, targets, {
    hash,
    onRead: (bytes) => progress.push(bytes),
    windowBytes: WINDOW_BYTES,
  });
  return { tensors, digests, progress };
}

/** Exact: each number of 16 bits is one of float32. */
const bitsOf = (tensor: Tensor) => Buffer.from(scope(() => toFloat32Array(tensor)).buffer);

const sha256 = async (name: string) =>
  createHash('sha256')
    .update(await readFile(join(path, name)))
    .digest('hex');

describe.each([false, true])('read in one pass, hashed: %s', (hash) => {
  test.each(['F32', 'BF16'] as const)(
    "weights of all dtypes become %s with the bits of TensorFlow's cast",
    async (dtype) => {
      await write('a.safetensors', { one: 'BF16', unused: 'F16', two: 'F32' });
      await write('b.safetensors', { three: 'F16', four: 'BF16' });
      const groups = [
        { names: ['four', 'one'], dtype },
        { names: ['two'], dtype },
        { names: ['three'], dtype },
      ];
      const before = liveTensorCount();
      const { tensors, digests, progress } = await read(await folderOf('a.safetensors', 'b.safetensors'), groups, hash);
      const expected = scope(() => {
        const one = (stored: FloatDtype) => cast(tensorOfBytes(patterns(stored), [COUNT], NAMES[stored]), NAMES[dtype]);
        return [one('BF16'), one('F32'), one('F16')].map(bitsOf);
      });
      const [fourOne, two, three] = tensors.map(bitsOf);
      for (const half of [fourOne!.subarray(0, fourOne!.length / 2), fourOne!.subarray(fourOne!.length / 2)]) {
        expect(Buffer.compare(half, expected[0]!)).toBe(0);
      }
      expect(Buffer.compare(two!, expected[1]!)).toBe(0);
      expect(Buffer.compare(three!, expected[2]!)).toBe(0);
      expect(digests).toEqual(hash ? [await sha256('a.safetensors'), await sha256('b.safetensors')] : null);
      expect(progress.length).toBeGreaterThan(2);
      expect(progress.reduce((sum, bytes) => sum + bytes, 0)).toBe(COUNT * (2 + 4 + 2 + 2));
      dispose(tensors);
      expect(liveTensorCount()).toBe(before);
    },
  );

  test('a file that is truncated while it is read is refused', async () => {
    await write('a.safetensors', { one: 'F32', two: 'F32' });
    const folder = await folderOf('a.safetensors');
    const target: WeightTarget = { names: ['one'], dtype: 'BF16', onFilled: () => {} };
    const onRead = () => truncateSync(join(path, 'a.safetensors'), 1_000);
    const reading = readWeights(folder, [target, { ...target, names: ['two'] }], {
      hash,
      onRead,
      windowBytes: WINDOW_BYTES,
    });
    await expect(reading).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining(
        'a.safetensors is not a valid safetensors file: the file ended while it was read',
      ),
    });
  });
});
