import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { BaseQuantization } from '@lorasmith/contracts';
import { readModelFolder, withBaseQuantization } from '@lorasmith/model-folder';
import { ALL_LAYERS, type Decoder, Generation, LoraAdapter, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import { chooseKernels, dispose, observeOps } from '@lorasmith/tensor';
import { writeSafetensors } from '@lorasmith/weight-files';
import { expect, test } from 'vitest';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { runnable } from './batches.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { optimizerStep } from './optimizer-step.js';
import { PassScheduler } from './shared-pass/pass-scheduler.js';

/**
 * Small models are bound by the time that each op costs, whatever it computes, so the ops of a layer and step are counted:
 * forward and backward, all linear layers adapted. One op adapts a group, for all adapters of a pass. The backward pass computes
 * two norms and a gated product again.
 */
const CASES = [
  { recomputedLayers: 0, dropout: 0, most: 27 },
  { recomputedLayers: ALL_LAYERS, dropout: 0, most: 41 },
  { recomputedLayers: 0, dropout: 0.1, most: 27 },
  { recomputedLayers: ALL_LAYERS, dropout: 0.1, most: 41 },
];

const HIDDEN = 64;
const KEY_VALUE = 32;
const INTERMEDIATE = 128;
const VOCABULARY = 128;

const kernels = chooseKernels('fused');

test.each(CASES)('a layer has few ops a step, recomputed layers $recomputedLayers, dropout $dropout', async (one) => {
  const [three, four] = [await opsOfStep(3, one), await opsOfStep(4, one)];
  const ofLayer = [...four].map(([name, count]): [string, number] => [name, count - (three.get(name) ?? 0)]);
  const ops = ofLayer.reduce((sum, [, count]) => sum + count, 0);
  const passes = one.recomputedLayers === 0 ? 2 : 3;
  const fewer = one.dropout === 0 ? passes * fewerAlone() : 0;
  expect(ops, JSON.stringify(ofLayer)).toBeLessThanOrEqual(one.most - fewer);
  // Each of four linear groups has two ops forward and two backward, or one.
  expect(ops).toBeGreaterThan(4 * 4 - fewer);
});

/** The ops of a forward or a backward pass of a layer that an adapter alone does not have: at each of four groups, the product is one op with it. */
function fewerAlone(): number {
  return kernels.weightsArePadded('bfloat16') ? 4 : 0;
}

test.each([
  { weights: 'none', most: 27 },
  // Where products do not decode, each of eight has two ops.
  { weights: 'nf4', most: 27 + 8 },
] as const)(
  'base quantization $weights: a layer of a pass has as many ops for eight adapters as for two, and fewer for one that is a part of the products',
  async ({ weights, most }) => {
    const ofLayer = async (adapters: number) =>
      total(await opsOfPass(4, adapters, weights)) - total(await opsOfPass(3, adapters, weights));
    const two = await ofLayer(2);
    expect(two).toBeLessThanOrEqual(most);
    expect(await ofLayer(8)).toBe(two);
    expect(await ofLayer(1)).toBe(two - 2 * fewerAlone());
  },
);

/** A layer of one token: two ops for each of four linear groups, two norms, attention, a gated unit. */
const GENERATION_OPS = 12;

test('a layer of a generation step has few ops, as many for sixteen texts as for two, each with its adapter', async () => {
  const ofLayer = async (texts: number) => total(await opsOfToken(4, texts)) - total(await opsOfToken(3, texts));
  expect(await ofLayer(1)).toBe(GENERATION_OPS - fewerAlone());
  expect(await ofLayer(16)).toBe(GENERATION_OPS);
  const [two, sixteen] = [total(await opsOfToken(3, 2)), total(await opsOfToken(3, 16))];
  expect(sixteen).toBe(two);
  expect(two - 3 * GENERATION_OPS).toBeLessThanOrEqual(12);
});

test('beside its layers, a step has few ops', async () => {
  const one = { recomputedLayers: 0, dropout: 0 };
  const [three, four] = [total(await opsOfStep(3, one)), total(await opsOfStep(4, one))];
  // The lowest layer has no product by its input, an op less where that is one of its own.
  expect(four - 4 * (four - three)).toBeLessThanOrEqual(fewerAlone() > 0 ? 21 : 20);
});

test('adapters of all experts of a layer are one op forward and one backward', async () => {
  const folder = new URL('../../../test/fixtures/families/qwen3_moe-experts/base', import.meta.url).pathname;
  const model = await readModelFolder(folder);
  const decoder = await loadDecoder(model, 'float32', kernels);
  const targets = model.parameters.map(({ name }) => ({ name, rank: 4, scale: 1 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  const ids = Int32Array.from({ length: 40 }, (_, i) => (i * 17) % decoder.architecture.vocabSize);
  const batch = tokenBatchOf([{ ids, trained: new Uint8Array(40).fill(1) }]);
  const counts = await opsOf(() => {
    const { losses, correct } = new NextToken(decoder).lossAndGradients(batch, { adapters: [{ adapter }] });
    dispose([losses, correct]);
  });
  adapter.takeGradient().dispose();
  expect(targets).toHaveLength(4);
  expect(counts.get('LorasmithLoraForward')).toBe(targets.length);
  expect(counts.get('LorasmithLoraBackward')).toBe(targets.length);
  adapter.dispose();
  decoder.dispose();
});

function total(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

/** Ops by name of the third step of a Llama in bfloat16, with all its linear layers adapted. */
function opsOfStep(
  layers: number,
  { recomputedLayers, dropout }: { recomputedLayers: number; dropout: number },
): Promise<Map<string, number>> {
  return withLlama(layers, async (decoder, targets) => {
    const adapter = new LoraAdapter(decoder.groups, { targets, dropout, seed: 0 });
    const optimizer = new AdamW(kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, weightDecay: 0.01 });
    const batch = batchOf(4);
    const settings = { seed: 1, max_grad_norm: 1, learningRate: 1e-3, recomputedLayers };
    const passes = new PassScheduler().join();
    const step = () => optimizerStep(adapter, optimizer, [runnable(new NextToken(decoder), batch)], settings, passes);
    // The first steps make constants.
    await step();
    await step();
    const counts = await opsOf(step);
    for (const part of [optimizer, adapter]) part.dispose();
    return counts;
  });
}

/** Ops by name of the second pass, forward and backward, that adapters share: each has rows of its own. */
function opsOfPass(layers: number, count: number, weights: BaseQuantization): Promise<Map<string, number>> {
  const use = async (decoder: Decoder, targets: Target[]) => {
    const batch = batchOf(count);
    const adapters = Array.from({ length: count }, (_, index) => ({
      adapter: new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: index }),
      tokens: { first: index * ROW_TOKENS, count: ROW_TOKENS },
    }));
    const pass = () => {
      const { losses, correct } = new NextToken(decoder).lossAndGradients(batch, { adapters });
      dispose([losses, correct]);
    };
    pass();
    for (const { adapter } of adapters) adapter.takeGradient().dispose();
    const counts = await opsOf(pass);
    for (const { adapter } of adapters) adapter.dispose();
    return counts;
  };
  return withLlama(layers, use, weights);
}

/** Ops by name of a step in which texts of unlike length each get a further token. */
function opsOfToken(layers: number, count: number): Promise<Map<string, number>> {
  return withLlama(layers, async (decoder, targets) => {
    const adapters = Array.from(
      { length: count },
      (_, seed) => new LoraAdapter(decoder.groups, { targets, dropout: 0, seed }),
    );
    const generation = new Generation(decoder, { cacheTokens: 4096, maxTexts: 16 });
    const tokens = new Array<number>(count).fill(0);
    for (const [index, adapter] of adapters.entries()) {
      const promptIds = Int32Array.from({ length: 2 + ((3 * index) % 31) }, (_, i) => (index + i * 17) % VOCABULARY);
      const request = { promptIds, adapter, maxNewTokens: 100, stopIds: [] };
      generation.add(request, ({ kind }) => {
        if (kind === 'token') tokens[index]!++;
      });
    }
    // Prompts are read in pieces, some texts ahead of others.
    while (Math.min(...tokens) < 3) generation.step();
    const counts = await opsOf(() => generation.step());
    for (const part of [generation, ...adapters]) part.dispose();
    return counts;
  });
}

const ROW_TOKENS = 24;

function batchOf(rows: number) {
  return tokenBatchOf(
    Array.from({ length: rows }, (_, row) => ({
      ids: Int32Array.from({ length: ROW_TOKENS }, (_, i) => (row * 31 + i * 17) % VOCABULARY),
      trained: new Uint8Array(ROW_TOKENS).fill(1),
    })),
  );
}

async function opsOf(run: () => unknown): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  observeOps(({ name }) => counts.set(name, (counts.get(name) ?? 0) + 1));
  try {
    await run();
  } finally {
    observeOps(null);
  }
  return counts;
}

type Target = { name: string; rank: number; scale: number };

async function withLlama<Result>(
  layers: number,
  use: (decoder: Decoder, targets: Target[]) => Promise<Result>,
  weights: BaseQuantization = 'none',
): Promise<Result> {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-ops-'));
  try {
    await writeLlama(folder, layers);
    const model = withBaseQuantization(await readModelFolder(folder), weights);
    const decoder = await loadDecoder(model, 'bfloat16', kernels);
    const projections = model.modules.filter(({ name }) => name.endsWith('_proj'));
    const result = await use(
      decoder,
      projections.map(({ name }) => ({ name, rank: 8, scale: 2 })),
    );
    decoder.dispose();
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function writeLlama(folder: string, layers: number): Promise<void> {
  const config = {
    model_type: 'llama',
    hidden_size: HIDDEN,
    intermediate_size: INTERMEDIATE,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: VOCABULARY,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
  };
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  const shapes: [string, number[]][] = [['model.embed_tokens.weight', [VOCABULARY, HIDDEN]]];
  for (let layer = 0; layer < layers; layer++) {
    const of: [string, number[]][] = [
      ['input_layernorm', [HIDDEN]],
      ['self_attn.q_proj', [HIDDEN, HIDDEN]],
      ['self_attn.k_proj', [KEY_VALUE, HIDDEN]],
      ['self_attn.v_proj', [KEY_VALUE, HIDDEN]],
      ['self_attn.o_proj', [HIDDEN, HIDDEN]],
      ['post_attention_layernorm', [HIDDEN]],
      ['mlp.gate_proj', [INTERMEDIATE, HIDDEN]],
      ['mlp.up_proj', [INTERMEDIATE, HIDDEN]],
      ['mlp.down_proj', [HIDDEN, INTERMEDIATE]],
    ];
    for (const [name, shape] of of) shapes.push([`model.layers.${layer}.${name}.weight`, shape]);
  }
  shapes.push(['model.norm.weight', [HIDDEN]]);
  const tensors = shapes.map(([name, shape]) => ({ name, dtype: 'F32' as const, shape, data: () => numbers(shape) }));
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
}

async function numbers(shape: number[]): Promise<Uint8Array> {
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  const values = Float32Array.from({ length: size }, (_, i) => ((i * 7919) % 1009) / 20_000 - 0.025);
  return new Uint8Array(values.buffer);
}
