import { join } from 'node:path';
import { type DecoderArchitecture, type LinearAttention, mixersOf, readModelFolder } from '@lorasmith/model-folder';
import { expect, test } from 'vitest';
import { checkEngineSupports } from './engine-support.js';

const CASES = new URL('../../../test/fixtures/families/', import.meta.url).pathname;
const [linear, usual] = await Promise.all(
  ['qwen3_5', 'qwen3'].map((name) => readModelFolder(join(CASES, name, 'base'))),
);

test("TensorFlow's engine for GPUs refuses a model with linear attention by name, and no other", () => {
  expect(() => checkEngineSupports('tensorflow', linear!)).toThrow(
    'The engine tensorflow has no kernels for the linear attention of base (qwen3_5_text). Processors have: run a worker with ENGINE=cpu.',
  );
  for (const engine of ['cpu', 'cuda', 'tensorflow'] as const) checkEngineSupports(engine, usual!);
});

test('the CUDA engine takes linear attention up to the sizes that its kernels have', () => {
  const architecture = linear!.architecture as DecoderArchitecture;
  const resized = (sizes: Partial<LinearAttention>) => {
    const layers = architecture.layers.map(({ mixer, mlp }) => ({
      mlp,
      mixer: mixer.kind === 'linear' ? { ...mixer, ...sizes } : mixer,
    }));
    return { name: 'base', architecture: { ...architecture, layers } };
  };
  checkEngineSupports('cuda', linear!);
  checkEngineSupports('cuda', resized({ keyHeadDim: 128, valueHeadDim: 128, convolutionTaps: 8 }));
  const { keyHeadDim, valueHeadDim } = mixersOf(architecture, 'linear')[0]!;
  for (const [sizes, part] of [
    [{ keyHeadDim: 129 }, `the linear attention with heads of 129 by ${valueHeadDim} numbers`],
    [{ valueHeadDim: 129 }, `the linear attention with heads of ${keyHeadDim} by 129 numbers`],
    [{ convolutionTaps: 9 }, 'the convolution over 9 tokens'],
  ] as const) {
    expect(() => checkEngineSupports('cuda', resized(sizes))).toThrow(
      `The engine cuda has no kernels for ${part} of base (qwen3_5_text). Processors have`,
    );
    checkEngineSupports('cpu', resized(sizes));
  }
});

test('every engine takes latent attention, whose heads are padded to a size that kernels have', async () => {
  for (const name of ['deepseek_v3', 'deepseek_v3-plain', 'glm4_moe_lite', 'mistral4']) {
    const model = await readModelFolder(join(CASES, name, 'base'));
    // The kernels of the CUDA engine take no other sizes; TensorFlow's own ops would be used.
    expect((model.architecture as DecoderArchitecture).headDim % 4).toBe(0);
    for (const engine of ['cpu', 'cuda', 'tensorflow'] as const) checkEngineSupports(engine, model);
  }
});

test('engines for GPUs take heads of attention up to a size of their own, in any layer', async () => {
  const gemma = await readModelFolder(join(CASES, 'gemma4-text', 'base'));
  const architecture = gemma.architecture as DecoderArchitecture;
  const withHeads = (headDim: number) => {
    const layers = mixersOf(architecture, 'attention').map((own, layer) => ({
      ...architecture.layers[layer]!,
      mixer: own.window === null ? { ...own, headDim } : own,
    }));
    return { ...gemma, architecture: { ...architecture, layers } };
  };
  for (const [engine, greatest] of [
    ['cuda', 512],
    ['tensorflow', 256],
  ] as const) {
    expect(() => checkEngineSupports(engine, withHeads(greatest + 4))).toThrow(
      `The engine ${engine} has no kernels for the attention with heads of ${greatest + 4} numbers of base (gemma4_text). Processors have: run a worker with ENGINE=cpu.`,
    );
    checkEngineSupports(engine, withHeads(greatest));
  }
  checkEngineSupports('cpu', withHeads(516));
});
