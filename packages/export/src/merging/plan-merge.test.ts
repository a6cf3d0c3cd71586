import { cp, mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import {
  NF4_VALUES,
  openSafetensors,
  type QuantizedHere,
  type QuantizedStorage,
  SCALE_VALUES,
  writeMerged,
  writeSafetensors,
} from '@lorasmith/weight-files';
import { expect, onTestFinished, test } from 'vitest';
import { mergeModel } from './merge-model.js';

const fixture = join(import.meta.dirname, '../../../../test/fixtures/quantized/nf4-mixed/base');
const QUERY = 'model.layers.0.self_attn.q_proj.weight';

test('a quantized weight that the model does not use is decoded, too', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'merged-source-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [base, merged] = [join(folder, 'base'), join(folder, 'merged')];
  await cp(fixture, base, { recursive: true });
  const file = await openSafetensors(join(base, 'model.safetensors'));
  const tensors = [];
  for (const { name, dtype, shape } of file.tensors.values()) {
    const data = await file.read(name);
    tensors.push({ name, dtype, shape, data });
    if (name.startsWith(QUERY)) tensors.push({ name: name.replace(QUERY, 'vision.fc.weight'), dtype, shape, data });
  }
  await file.close();
  await writeSafetensors(join(base, 'model.safetensors'), tensors);
  await mkdir(merged);
  const model = await readModelFolder(base);
  // No layer is adapted.
  await mergeModel({ model, adapter: { modules: new Map() } as never, outputFolder: merged });

  const became = await openSafetensors(join(merged, 'model.safetensors'));
  expect(became.tensors.get('vision.fc.weight')).toMatchObject({ dtype: 'BF16', shape: [64, 64] });
  const [own, other] = [await became.read(QUERY), await became.read('vision.fc.weight')];
  expect(Buffer.compare(own, other)).toBe(0);
  expect([...became.tensors.keys()].filter((name) => /absmax|quant/.test(name))).toEqual([]);
  await became.close();
  const config = JSON.parse(await readFile(join(merged, 'config.json'), 'utf8'));
  expect(config).not.toHaveProperty('quantization_config');
});

// Rows that begin within a block, and more than a piece of them; a short block; several blocks of scales.
test.each([
  ['random-bfloat16', 'BF16', [49, 337]],
  ['random-float16', 'F16', [40, 32]],
  ['zeros', 'F32', [3, 23]],
] as const)('%s, quantized while it is merged, is what bitsandbytes has stored of it', async (name, numbers, shape) => {
  const folder = await mkdtemp(join(tmpdir(), 'merged-source-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(fixture, '../../encoding.safetensors');
  const file = await openSafetensors(path);
  const handle = await open(path);
  const partOf = (what: string) => {
    const { byteOffset: offset, byteLength: bytes } = file.tensors.get(`${name}.${what}`)!;
    return { fd: handle.fd, offset, bytes };
  };
  const [offset] = new Float32Array((await file.read(`${name}.offset`)).slice().buffer);
  const nested = { values: SCALE_VALUES, offset: offset!, scales: partOf('nested_scales') };
  const stored = { shape, values: NF4_VALUES, scales: partOf('scale_codes'), nested };
  const written = async (part: string, quantized: QuantizedStorage | QuantizedHere) => {
    const target = join(folder, part);
    const output = await open(target, 'w');
    await writeMerged({ output: output.fd, header: Buffer.alloc(0), tensors: [{ ...partOf(part), quantized }] });
    await output.close();
    return await readFile(target);
  };
  const made = await written('numbers', { shape, numbers });
  expect(made.length).toBe(2 * shape[0] * shape[1]);
  expect(Buffer.compare(made, await written('codes', stored))).toBe(0);
  await handle.close();
  await file.close();
});
