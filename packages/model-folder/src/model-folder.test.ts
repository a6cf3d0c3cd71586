import { cp, mkdtemp, readFile, rename, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Dtype, openSafetensors, toFloat32, writeSafetensors } from '@lorasmith/weight-files';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type FileTensor, rewriteTensors } from '../test/changed-folder.js';
import type { DecoderArchitecture } from './architecture.js';
import { LLAMA_NAMES } from './decoder-names.js';
import { type ModelFolder, readModelFolder } from './model-folder.js';
import { openModelWeights } from './weights/model-weights.js';

const reference = new URL('../../../test/fixtures/reference/', import.meta.url).pathname;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'model-folder-'));
});
afterAll(() => rm(root, { recursive: true }));

/** A copy of a reference model, with fields of its config changed or, if undefined, removed. */
async function modelWith(change: Record<string, unknown>, base = 'llama-tied'): Promise<string> {
  const folder = join(await mkdtemp(join(root, 'model-')), 'Copy');
  await cp(join(reference, base, 'base'), folder, { recursive: true });
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...change }));
  return folder;
}

/** Rewrites the weights of a folder: `change` returns each tensor, or null to remove it. */
const rewriteWeights = (folder: string, change: (tensor: FileTensor) => FileTensor | null) =>
  rewriteTensors(folder, (all) => all.flatMap((tensor) => change(tensor) ?? []));

async function classifier(config: Record<string, unknown>, tensors: [string, number[], Dtype?][]): Promise<string> {
  const folder = await mkdtemp(join(root, 'classifier-'));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'classifier', ...config }));
  const entries = tensors.map(([name, shape, dtype = 'F32']) => {
    const bytes = shape.reduce((product, size) => product * size, dtype === 'F32' ? 4 : 2);
    return { name, dtype, shape, data: new Uint8Array(bytes) };
  });
  await writeSafetensors(join(folder, 'model.safetensors'), entries);
  return folder;
}

const decoder = ({ architecture }: ModelFolder) => architecture as DecoderArchitecture;

describe('reference models of transformers', () => {
  test('llama with a tied head', async () => {
    const folder = await readModelFolder(join(reference, 'llama-tied', 'base'));
    expect(folder).toMatchObject({ name: 'base', parameterCount: 67_920, dtype: 'float32' });
    expect(folder.architecture).toEqual({
      kind: 'decoder',
      family: 'llama',
      vocabSize: 160,
      hiddenSize: 48,
      intermediateSize: 96,
      layerCount: 3,
      headCount: 6,
      keyValueHeadCount: 2,
      headDim: 8,
      names: LLAMA_NAMES,
      embeddingScale: 1,
      branchScale: 1,
      logitScale: 1,
      norm: { kind: 'rms', epsilon: 1e-5, weightOffset: 0 },
      ropes: [{ theta: 100_000, partialRotaryFactor: 1, interleaved: false, scaling: null }],
      attention: {
        softcap: null,
        queryGrowth: null,
        queryKeyNorm: 'head',
        valueNorm: null,
        outputGate: null,
      },
      layers: Array.from({ length: 3 }, () => ({
        mixer: { kind: 'attention', scale: 1 / Math.sqrt(8), window: null, rope: 0 },
        mlp: { kind: 'dense' },
      })),
      layerInputs: null,
      mlp: { gated: true, activation: 'silu' },
      bias: { queryKeyValue: false, attentionOutput: false, mlp: false },
      transposedWeights: false,
      logitSoftcap: null,
      tiedHead: true,
      maxPositions: 256,
      ignoredDropout: [],
      bosTokenId: 1,
      eosTokenIds: [2],
      padTokenId: 0,
    });
    expect(folder.modules).toHaveLength(21);
    expect(folder.modules.slice(0, 7)).toEqual([
      { name: 'model.layers.0.self_attn.q_proj', in_features: 48, out_features: 48 },
      { name: 'model.layers.0.self_attn.k_proj', in_features: 48, out_features: 16 },
      { name: 'model.layers.0.self_attn.v_proj', in_features: 48, out_features: 16 },
      { name: 'model.layers.0.self_attn.o_proj', in_features: 48, out_features: 48 },
      { name: 'model.layers.0.mlp.gate_proj', in_features: 48, out_features: 96 },
      { name: 'model.layers.0.mlp.up_proj', in_features: 48, out_features: 96 },
      { name: 'model.layers.0.mlp.down_proj', in_features: 96, out_features: 48 },
    ]);
    expect(folder.headModule).toEqual({ name: 'lm_head', in_features: 48, out_features: 160 });
  });

  test('llama with an untied head', async () => {
    const folder = await readModelFolder(join(reference, 'llama-untied-all-linear', 'base'));
    expect(folder.parameterCount).toBe(67_920 + 160 * 48);
    expect(decoder(folder).tiedHead).toBe(false);
  });

  test('qwen2 with biases on q, k and v', async () => {
    const folder = await readModelFolder(join(reference, 'qwen2', 'base'));
    expect(folder.parameterCount).toBe(67_920 + 3 * (48 + 16 + 16));
    expect(decoder(folder).bias).toEqual({ queryKeyValue: true, attentionOutput: false, mlp: false });
    expect(decoder(folder).ropes[0]?.theta).toBe(1_000_000);
  });

  test('every module has its tensor, and every tensor can be read', async () => {
    const folder = await readModelFolder(join(reference, 'qwen2', 'base'));
    const weights = await openModelWeights(folder);
    for (const { name, in_features, out_features } of folder.modules) {
      expect(weights.entry(`${name}.weight`).shape).toEqual([out_features, in_features]);
    }
    const embedding = toFloat32(await weights.read('model.embed_tokens.weight'), 'F32');
    expect(embedding).toHaveLength(160 * 48);
    expect(embedding.every(Number.isFinite)).toBe(true);
    await expect(weights.read('lm_head.weight')).rejects.toMatchObject({ code: 'model_file_missing' });
    await weights.close();
  });
});

describe('config.json', () => {
  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const scaling = { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 };

  test.each<[string, Record<string, unknown>, object]>([
    ['theta at the top', { rope_parameters: undefined, rope_theta: 5e5 }, { theta: 5e5, scaling: null }],
    ['no theta', { rope_parameters: undefined }, { theta: 10_000, scaling: null }],
    [
      'scaling at the top',
      { rope_parameters: null, rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } },
      { theta: 5e5, scaling },
    ],
    [
      'scaling under its older name',
      { rope_parameters: null, rope_theta: 5e5, rope_scaling: { type: 'llama3', ...llama3 } },
      { theta: 5e5, scaling },
    ],
    [
      'scaling in rope_parameters',
      { rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } },
      { theta: 5e5, scaling },
    ],
    ['both, with the same values', { rope_theta: 1e5, rope_scaling: null }, { theta: 1e5, scaling: null }],
  ])('rope: %s', async (_, change, expected) => {
    expect(decoder(await readModelFolder(await modelWith(change))).ropes[0]).toEqual({
      partialRotaryFactor: 1,
      interleaved: false,
      ...expected,
    });
  });

  test('missing fields have the defaults of transformers', async () => {
    const change = {
      head_dim: undefined,
      rms_norm_eps: undefined,
      hidden_act: undefined,
      max_position_embeddings: undefined,
    };
    const folder = await readModelFolder(await modelWith(change));
    expect(decoder(folder)).toMatchObject({ headDim: 8, norm: { epsilon: 1e-6 }, maxPositions: 2048 });
  });

  test('eos tokens from both files', async () => {
    const folder = await modelWith({ eos_token_id: [2, 5], pad_token_id: -1, bos_token_id: null });
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: [5, 7] }));
    expect(decoder(await readModelFolder(folder))).toMatchObject({
      eosTokenIds: [2, 5, 7],
      padTokenId: null,
      bosTokenId: 1,
    });
    await unlink(join(folder, 'generation_config.json'));
    expect(decoder(await readModelFolder(folder)).eosTokenIds).toEqual([2, 5]);
  });

  test.each<[string, Record<string, unknown>]>([
    ['model_type', { model_type: 'mamba' }],
    ['model_type', { model_type: '__proto__' }],
    ['architectures', { architectures: ['LlamaForSequenceClassification'] }],
    ['auto_map', { auto_map: { AutoModel: 'modeling.Model' } }],
    ['is_causal', { is_causal: false }],
    ['is_causal', { is_causal: null }],
    ['per_layer_config', { per_layer_config: { 1: { hidden_act: 'relu' } } }],
    ['hidden_act', { hidden_act: 'gelu_10' }],
    ['rope_scaling.rope_type', { rope_scaling: { rope_type: 'proportional', factor: 4 } }],
    ['rope_scaling.type', { rope_scaling: { type: 'su', factor: 4 } }],
    ['rope_parameters.rope_type', { rope_parameters: { rope_type: 'constructor', factor: 4 } }],
    ['rope_parameters.full_attention', { rope_parameters: { full_attention: { rope_type: 'default' } } }],
    ['partial_rotary_factor', { partial_rotary_factor: 0.5 }],
    ['rope_parameters.partial_rotary_factor', { rope_parameters: { partial_rotary_factor: 0.5 } }],
  ])('%s is not supported, by name: %j', async (field, change) => {
    await expect(readModelFolder(await modelWith(change))).rejects.toMatchObject({
      code: 'model_not_supported',
      message: expect.stringContaining(`Copy/config.json: ${field} `),
    });
  });

  test.each<[string, Record<string, unknown>]>([
    ['model_type', { model_type: 7 }],
    ['hidden_size', { hidden_size: undefined }],
    ['hidden_size', { hidden_size: '48' }],
    ['hidden_size', { hidden_size: 47.5 }],
    ['vocab_size', { vocab_size: 2 ** 40 }],
    ['num_hidden_layers', { num_hidden_layers: 1e9 }],
    ['num_hidden_layers', { num_hidden_layers: 0 }],
    ['num_key_value_heads', { num_key_value_heads: 4 }],
    ['head_dim', { head_dim: 7 }],
    ['rms_norm_eps', { rms_norm_eps: 0 }],
    ['tie_word_embeddings', { tie_word_embeddings: 'yes' }],
    ['eos_token_id', { eos_token_id: 160 }],
    ['eos_token_id', { eos_token_id: [2, -1] }],
    ['rope_scaling', { rope_scaling: 'llama3' }],
    ['rope_scaling.factor', { rope_scaling: { rope_type: 'llama3' } }],
    ['rope_scaling.high_freq_factor', { rope_scaling: { rope_type: 'llama3', ...llama3, high_freq_factor: 1 } }],
  ])('%s is invalid, by name: %j', async (field, change) => {
    await expect(readModelFolder(await modelWith(change))).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining(`Copy/config.json: ${field} `),
    });
  });

  test.each<[string, string | Uint8Array]>([
    ['broken JSON', '{"model_type":'],
    ['a list', '[]'],
    ['invalid UTF-8', new Uint8Array([0x7b, 0xff, 0x7d])],
    ['too long', ' '.repeat(5_000_000)],
  ])('%s names the file', async (_, text) => {
    const folder = await modelWith({});
    await writeFile(join(folder, 'config.json'), text);
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining('Copy/config.json'),
    });
  });

  test('a missing file is named', async () => {
    const folder = await modelWith({});
    await unlink(join(folder, 'config.json'));
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_file_missing',
      message: expect.stringContaining('Copy/config.json'),
    });
  });
});

describe('weights', () => {
  describe('a head in the files although config.json ties it', () => {
    const EMBEDDING = 'model.embed_tokens.weight';
    const HEAD = 'lm_head.weight';
    const tied = { tie_word_embeddings: true };

    /** The folder, with a head computed from the embedding. */
    async function withHead(head: (embedding: FileTensor) => FileTensor) {
      const folder = await modelWith(tied, 'llama-untied-all-linear');
      const source = await openSafetensors(join(folder, 'model.safetensors'));
      const { dtype, shape } = source.tensors.get(EMBEDDING)!;
      const made = head({ name: HEAD, dtype, shape, data: await source.read(EMBEDDING) });
      await source.close();
      await rewriteWeights(folder, (tensor) => (tensor.name === HEAD ? made : tensor));
      return await readModelFolder(folder);
    }

    test('is tied and not counted if it equals the embedding', async () => {
      const folder = await withHead((embedding) => embedding);
      expect(folder).toMatchObject({ architecture: { tiedHead: true }, untiedByFiles: false });
      expect(folder.parameterCount).toBe(67_920);
      expect(folder.tensors.has(HEAD)).toBe(true);
    });

    test.each<[string, (embedding: FileTensor) => FileTensor]>([
      [
        'in the last number only',
        ({ data, ...head }) => ({ ...head, data: data.map((byte, i) => (i === data.length - 1 ? byte ^ 1 : byte)) }),
      ],
      ['in its dtype', ({ data, ...head }) => ({ ...head, dtype: 'BF16', data: data.slice(data.length / 2) })],
    ])('is untied, as in transformers, if it differs %s', async (_, head) => {
      const folder = await withHead(head);
      expect(decoder(folder).tiedHead).toBe(false);
      expect(folder.untiedByFiles).toBe(true);
      expect(folder.linears.get('lm_head')?.weight).toBe(HEAD);
      expect(folder.parameterCount).toBe(67_920 + 160 * 48);
    });

    test('is compared again after the file has changed', async () => {
      const folder = await modelWith(tied, 'llama-untied-all-linear');
      expect(decoder(await readModelFolder(folder)).tiedHead).toBe(false);
      await rewriteWeights(folder, (tensor) => (tensor.name === HEAD ? null : tensor));
      expect(decoder(await readModelFolder(folder)).tiedHead).toBe(true);
    });

    test('is named if its shape differs', async () => {
      await expect(withHead((embedding) => ({ ...embedding, shape: [48, 160] }))).rejects.toMatchObject({
        code: 'model_file_corrupt',
        message: expect.stringContaining(HEAD),
      });
    });

    test('is the embedding too if the files have no embedding', async () => {
      const folder = await modelWith(tied, 'llama-untied-all-linear');
      await rewriteWeights(folder, (tensor) => (tensor.name === EMBEDDING ? null : tensor));
      const read = await readModelFolder(folder);
      const prefixes = [{ modules: 'model.embed_tokens', files: 'lm_head' }];
      expect(decoder(read)).toMatchObject({ tiedHead: true, names: { embedding: 'model.embed_tokens', prefixes } });
      expect(read.linears.get('lm_head')?.weight).toBe(HEAD);
      expect(read.parameterCount).toBe(67_920);
    });
  });

  test('attention and MLP biases are required if the config sets them', async () => {
    const folder = await modelWith({ attention_bias: true, mlp_bias: true });
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_file_missing',
      message: expect.stringContaining('model.layers.0.self_attn.q_proj.bias'),
    });
  });

  test('the dtype is that of most parameters', async () => {
    const folder = await modelWith({});
    await rewriteWeights(folder, (tensor) =>
      tensor.shape.length === 1
        ? tensor
        : { ...tensor, dtype: 'BF16', data: tensor.data.slice(tensor.data.length / 2) },
    );
    expect((await readModelFolder(folder)).dtype).toBe('bfloat16');
  });

  test.each<[string, string, RegExp, (tensor: FileTensor) => FileTensor | null]>([
    [
      'missing',
      'model_file_missing',
      /model\.norm\.weight/,
      (tensor) => (tensor.name === 'model.norm.weight' ? null : tensor),
    ],
    [
      'of another shape',
      'model_file_corrupt',
      /Copy\/model\.safetensors: tensor model\.norm\.weight .*\[24, 2\].*\[48\]/,
      (tensor) => (tensor.name === 'model.norm.weight' ? { ...tensor, shape: [24, 2] } : tensor),
    ],
    [
      'of integers',
      'model_not_supported',
      /model\.norm\.weight is I32/,
      (tensor) => (tensor.name === 'model.norm.weight' ? { ...tensor, dtype: 'I32' } : tensor),
    ],
  ])('a tensor that is %s is named', async (_, code, message, change) => {
    const folder = await modelWith({});
    await rewriteWeights(folder, change);
    await expect(readModelFolder(folder)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('a truncated file is named', async () => {
    const folder = await modelWith({});
    await truncate(join(folder, 'model.safetensors'), 100_000);
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining('Copy/model.safetensors'),
    });
  });

  test.each([
    ['pytorch_model.bin', 'model_not_supported', 'pickle'],
    ['pytorch_model-00001-of-00002.bin', 'model_not_supported', 'pickle'],
    ['model.Q4_1.gguf', 'model_not_supported', 'gguf_file="model.Q4_1.gguf"'],
    ['notes.txt', 'model_file_missing', 'Copy/model.safetensors is missing'],
  ])('%s instead of safetensors: %s', async (file, code, message) => {
    const folder = await modelWith({});
    await rename(join(folder, 'model.safetensors'), join(folder, file));
    await expect(readModelFolder(folder)).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });

  test('a GGUF file alone is named, not the files that are missing beside it', async () => {
    const folder = await modelWith({});
    await rename(join(folder, 'model.safetensors'), join(folder, 'model.Q4_1.gguf'));
    await unlink(join(folder, 'config.json'));
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_not_supported',
      message: expect.stringContaining('Copy/model.Q4_1.gguf is not in safetensors format'),
    });
  });

  test('follows links to files elsewhere, as in the hub cache', async () => {
    const folder = await modelWith({});
    await rename(join(folder, 'model.safetensors'), join(folder, '..', 'blob'));
    await symlink(join('..', 'blob'), join(folder, 'model.safetensors'));
    expect((await readModelFolder(folder)).parameterCount).toBe(67_920);
  });
});

describe('weights in several files', () => {
  const index = 'model.safetensors.index.json';

  /** Splits the weights of a copy into two shards; `change` modifies the index. */
  async function sharded(change: (weightMap: Record<string, string>) => Record<string, unknown> = (map) => map) {
    const folder = await modelWith({});
    const source = await openSafetensors(join(folder, 'model.safetensors'));
    const weightMap: Record<string, string> = {};
    const shards = new Map<string, FileTensor[]>();
    for (const { name, dtype, shape } of source.tensors.values()) {
      const file = `model-0000${name.includes('layers.1') ? 2 : 1}-of-00002.safetensors`;
      weightMap[name] = file;
      shards.set(file, [...(shards.get(file) ?? []), { name, dtype, shape, data: await source.read(name) }]);
    }
    await source.close();
    for (const [file, tensors] of shards) await writeSafetensors(join(folder, file), tensors);
    await unlink(join(folder, 'model.safetensors'));
    await writeFile(join(folder, index), JSON.stringify({ metadata: {}, weight_map: change(weightMap) }));
    return folder;
  }

  test('are read like a single file', async () => {
    const whole = await readModelFolder(join(reference, 'llama-tied', 'base'));
    const folder = await readModelFolder(await sharded());
    expect(folder.files.map(({ name }) => name)).toEqual([
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
    ]);
    expect(folder).toMatchObject({ parameterCount: 67_920, modules: whole.modules });
    expect([...folder.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
    const [weights, expected] = [await openModelWeights(folder), await openModelWeights(whole)];
    for (const name of whole.tensors.keys()) expect(await weights.read(name)).toEqual(await expected.read(name));
    await weights.close();
    await expected.close();
  });

  test('a missing shard is named', async () => {
    const folder = await sharded();
    await unlink(join(folder, 'model-00002-of-00002.safetensors'));
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_file_missing',
      message: expect.stringContaining('model-00002-of-00002.safetensors'),
    });
  });

  test.each<[string, string, (map: Record<string, string>) => Record<string, unknown>]>([
    ['a path', '../secret.safetensors', (map) => ({ ...map, 'model.norm.weight': '../secret.safetensors' })],
    ['an absolute path', '/etc/passwd', (map) => ({ ...map, 'model.norm.weight': '/etc/passwd' })],
    ['a number', '7', (map) => ({ ...map, 'model.norm.weight': 7 })],
    [
      'a tensor of another shard',
      'model.norm.weight',
      (map) => ({ ...map, 'model.norm.weight': 'model-00002-of-00002.safetensors' }),
    ],
    [
      'a tensor that no shard has',
      'ghost.weight',
      (map) => ({ ...map, 'ghost.weight': 'model-00001-of-00002.safetensors' }),
    ],
  ])('an index with %s is corrupt', async (_, named, change) => {
    await expect(readModelFolder(await sharded(change))).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining(named),
    });
  });
});

describe('a file that changes after it was read', () => {
  test('is detected when it is opened', async () => {
    const path = await modelWith({});
    const folder = await readModelFolder(path);
    await rewriteWeights(path, (tensor) =>
      tensor.name === 'model.norm.weight' ? { ...tensor, shape: [2, 24] } : tensor,
    );
    await expect(openModelWeights(folder)).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining('changed'),
    });
  });
});

describe('classifier', () => {
  const layers = [128, 256, 10];
  const weights: [string, number[]][] = [
    ['0.weight', [256, 128]],
    ['0.bias', [256]],
    ['2.weight', [10, 256]],
  ];

  test('is a stack of linear layers, with or without bias', async () => {
    const folder = await readModelFolder(await classifier({ layers, activation: 'relu' }, weights));
    expect(folder.architecture).toEqual({
      kind: 'classifier',
      family: 'classifier',
      layers: [
        { name: '0', inFeatures: 128, outFeatures: 256, bias: true },
        { name: '2', inFeatures: 256, outFeatures: 10, bias: false },
      ],
      activation: 'relu',
    });
    expect(folder).toMatchObject({ parameterCount: 256 * 128 + 256 + 2560, headModule: null });
    expect(folder.name).toBe(basename(folder.path));
    expect(folder.modules).toEqual([
      { name: '0', in_features: 128, out_features: 256 },
      { name: '2', in_features: 256, out_features: 10 },
    ]);
  });

  test.each<[string, string, Record<string, unknown>]>([
    ['model_not_supported', 'activation "none"', { layers, activation: 'none' }],
    ['model_not_supported', 'activation "constructor"', { layers, activation: 'constructor' }],
    ['model_file_corrupt', 'activation', { layers }],
    ['model_file_corrupt', 'layers', { activation: 'relu' }],
    ['model_file_corrupt', 'layers', { layers: [128], activation: 'relu' }],
    ['model_file_corrupt', 'layers', { layers: [128, 0], activation: 'relu' }],
    ['model_file_corrupt', 'layers', { layers: [128, 2 ** 60], activation: 'relu' }],
    ['model_file_corrupt', '0.weight has the shape [256, 128]', { layers: [64, 256, 10], activation: 'relu' }],
    ['model_file_missing', '4.weight', { layers: [128, 256, 10, 3], activation: 'relu' }],
  ])('%s: %s', async (code, message, config) => {
    await expect(readModelFolder(await classifier(config, weights))).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });
});
