import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromFloat32, type TensorSource, toFloat32, writeMerged } from '@lorasmith/weight-files';
import { expect, test } from 'vitest';

async function writtenOf(source: TensorSource): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), 'convert-dtypes-'));
  try {
    const file = await open(join(folder, 'written'), 'wx');
    try {
      await writeMerged({ output: file.fd, header: new Uint8Array(), tensors: [source] });
    } finally {
      await file.close();
    }
    return await readFile(join(folder, 'written'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

test('conversions between dtypes are those of @lorasmith/weight-files, for every half float', async () => {
  const halves = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits).filter((bits) => (bits & 0x7c00) !== 0x7c00);
  const stored: Record<'F16' | 'BF16' | 'F32', Uint8Array> = {
    F16: new Uint8Array(halves.buffer),
    BF16: new Uint8Array(),
    F32: new Uint8Array(),
  };
  const floats = toFloat32(stored.F16, 'F16');
  // Between all neighbours, too.
  const between = Float32Array.from(floats, (value, index) => (value + (floats[index + 1] ?? value)) / 2);
  stored.F32 = Buffer.concat([new Uint8Array(floats.buffer), new Uint8Array(between.buffer)]);
  // Those that are finite as float16, too.
  stored.BF16 = fromFloat32(
    between.filter((value) => Math.abs(value) < 65_000),
    'BF16',
  );
  for (const from of ['F32', 'F16', 'BF16'] as const) {
    for (const to of ['F32', 'F16', 'BF16'] as const) {
      const content = stored[from];
      const conversion = { from, to, shape: [1, content.byteLength / (from === 'F32' ? 4 : 2)] as const };
      const expected = fromFloat32(toFloat32(content, from), to);
      expect(Buffer.compare(await writtenOf({ content, conversion }), expected)).toBe(0);
    }
  }
});
