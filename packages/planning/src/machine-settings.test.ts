import { join } from 'node:path';
import type { MachineEngine, MachineRates } from '@lorasmith/contracts';
import { type DecoderArchitecture, type LinearAttention, mixersOf, readModelFolder } from '@lorasmith/model-folder';
import { expect, test } from 'vitest';
import { checkEngineSupports, passTokensOf, SHARED_PASS_TOKENS } from './machine-settings.js';

const GPU: MachineEngine = { kind: 'cuda', card: null, self_test: null };
/** Rates in bfloat16 as a card's data sheet lets expect them: 10¹² operations and 10⁹ bytes a second. */
const ratesOf = (teraflops: number, gigabytes: number, layer_overhead_ms = 0.37): MachineRates => ({
  matmul_gflops: 1e3 * teraflops,
  attention_gflops: 1,
  weight_gbytes: gigabytes,
  pass_gbytes: 1,
  layer_overhead_ms,
});
const tokensOn = (rates: MachineRates, engine = GPU) =>
  passTokensOf({ engine, rates: { float32: ratesOf(1, 1), bfloat16: rates } });
/** The time of a frozen model, forward and backward. */
const secondsOf = (tokens: number, parameters: number, teraflops: number) =>
  (4 * parameters * tokens) / (1e12 * teraflops);

test('a processor shares passes of 1,024 tokens, whatever was measured', () => {
  const engine: MachineEngine = { ...GPU, kind: 'cpu' };
  expect(tokensOn(ratesOf(650, 2700), engine)).toBe(1024);
});

test.each([
  ['H100', 650, 2700, 16_384],
  ['A100', 240, 1600, 6144],
  ['RTX 4090', 150, 900, 3072],
  ['L4', 70, 250, 2048],
])(
  '%s shares passes of as many tokens as it computes in a second of a large model',
  (_, teraflops, gigabytes, tokens) => {
    expect(tokensOn(ratesOf(teraflops, gigabytes))).toBe(tokens);
    expect(secondsOf(tokens, 8e9, teraflops)).toBeLessThanOrEqual(1);
  },
);

test('a pass is no longer than the rate of products needs', () => {
  // Calls that cost nothing leave the reading of weights: 20 times its time are 20 · 650 / 2.7 tokens.
  expect(tokensOn(ratesOf(650, 2700, 0))).toBe(4096);
});

test('a card that computes slowly has passes of no fewer tokens than a processor', () => {
  expect(tokensOn(ratesOf(1, 100))).toBe(SHARED_PASS_TOKENS);
});

test('a card without bfloat16 goes by its rates in float32', () => {
  expect(passTokensOf({ engine: GPU, rates: { float32: ratesOf(240, 1600), bfloat16: null } })).toBe(6144);
});

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
