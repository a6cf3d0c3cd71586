import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { SeededRandom } from '@lorasmith/seeded-random';
import { chooseKernels, scope, toFloat32Array } from '@lorasmith/tensor';
import { type Dtype, openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { expect, onTestFinished, test } from 'vitest';
import { loadDecoder } from './load-decoder.js';

const kernels = chooseKernels('raw');

const BASE = fileURLToPath(new URL('../../../../test/fixtures/families/deepseek_v3/base', import.meta.url));
const BLOCK = 8;
const IDS = Int32Array.from({ length: 20 }, (_, i) => 3 + ((i * 17) % 60));

interface Stored {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  data: Uint8Array;
}

/** The number of an E4M3 code: a sign, 4 bits of the exponent, 3 of the fraction. */
function ofCode(code: number): number {
  const exponent = (code >> 3) & 15;
  const fraction = (code & 7) / 8;
  const size = exponent === 0 ? fraction * 2 ** -6 : (1 + fraction) * 2 ** (exponent - 7);
  return code & 128 ? -size : size;
}

/** The linear layers and experts of a model with random codes of 8 bits and scales of blocks, and with the numbers that these mean. */
function inEightBits(tensors: readonly Stored[]): { scaled: Stored[]; decoded: Stored[] } {
  const random = new SeededRandom(3, 'codes of 8 bits');
  const pairs = tensors.map((tensor): { scaled: Stored[]; decoded: Stored } => {
    const [rows = 0, columns = 0] = tensor.shape;
    if (!/_(proj|mqa)\.weight$/.test(tensor.name)) return { scaled: [tensor], decoded: tensor };
    const blocks = [Math.ceil(rows / BLOCK), Math.ceil(columns / BLOCK)] as const;
    // Numbers up to 1.875 and scales around 0.1: none is NaN or large.
    const codes = Uint8Array.from(
      { length: rows * columns },
      () => Math.floor(random.next() * 64) | (random.next() < 0.5 ? 128 : 0),
    );
    const scales = Float32Array.from({ length: blocks[0] * blocks[1] }, () => 0.05 + 0.1 * random.next());
    const numbers = Float32Array.from(codes, (code, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      return ofCode(code) * scales[Math.floor(row / BLOCK) * blocks[1] + Math.floor(column / BLOCK)]!;
    });
    const { name, shape } = tensor;
    return {
      scaled: [
        { name, dtype: 'F8_E4M3', shape, data: codes },
        { name: `${name}_scale_inv`, dtype: 'F32', shape: blocks, data: new Uint8Array(scales.buffer) },
      ],
      decoded: { name, dtype: 'F32', shape, data: new Uint8Array(numbers.buffer) },
    };
  });
  return { scaled: pairs.flatMap((pair) => pair.scaled), decoded: pairs.map((pair) => pair.decoded) };
}

test('a model whose experts are in 8 bits is the model of the numbers that they mean, as DeepSeek publishes it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'scaled-experts-'));
  onTestFinished(() => rm(root, { recursive: true }));
  const file = await openSafetensors(join(BASE, 'model.safetensors'));
  const tensors: Stored[] = [];
  for (const { name, dtype, shape } of file.tensors.values())
    tensors.push({ name, dtype, shape, data: await file.read(name) });
  await file.close();
  const { scaled, decoded } = inEightBits(tensors);
  const config = JSON.parse(await readFile(join(BASE, 'config.json'), 'utf8'));
  const quantization_config = { quant_method: 'fp8', activation_scheme: 'dynamic', weight_block_size: [BLOCK, BLOCK] };
  const logitsOf = async (name: string, own: readonly Stored[], settings: object) => {
    const folder = join(root, name);
    await cp(BASE, folder, { recursive: true });
    // Layers for the prediction of further tokens, which are not used.
    const further = {
      name: 'model.layers.3.mlp.experts.0.down_proj.weight',
      dtype: 'F32' as const,
      shape: [1],
      data: new Uint8Array(4),
    };
    await writeSafetensors(join(folder, 'model.safetensors'), [...own, further]);
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...settings }));
    const model = await readModelFolder(folder);
    const decoder = await loadDecoder(model, 'float32', kernels);
    const logits = scope(() => toFloat32Array(decoder.logits({ ids: IDS, rowLengths: [IDS.length] })));
    decoder.dispose();
    return { model, logits };
  };
  const inBits = await logitsOf('scaled', scaled, { quantization_config });
  const inFloats = await logitsOf('decoded', decoded, {});
  expect(inBits.model.dtype).toBe('fp8');
  // 5 layers of attention in 3 layers, an MLP, and in two layers six experts and a shared one.
  expect(inBits.model.quantized.size).toBe(3 * 5 + 3 + 2 * 7 * 3);
  expect(inBits.model.parameterCount).toBe(inFloats.model.parameterCount);
  expect(inBits.logits).toEqual(inFloats.logits);
  expect(new Set(inBits.logits).size).toBeGreaterThan(1000);
});
