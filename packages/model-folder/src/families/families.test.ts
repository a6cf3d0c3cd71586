import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Dtype, openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DecoderArchitecture, Experts, RopeScaling } from '../architecture.js';
import { withBaseQuantization } from '../base-quantization.js';
import { ConfigFields } from '../config/config-fields.js';
import { intermediateSizeOf } from '../layer-kinds/dense.js';
import { mixersOf } from '../layer-kinds/mixer-kinds.js';
import { hasExperts } from '../layer-kinds/sparse.js';
import { readModelFolder } from '../model-folder.js';
import { FAMILIES } from './family-registry.js';

const CASES = new URL('../../../../test/fixtures/families/', import.meta.url).pathname;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'families-'));
});
afterAll(() => rm(root, { recursive: true }));

/** The architecture of a reference case of transformers, with fields of its config changed or, if undefined, removed. */
async function architectureOf(name: string, change: Record<string, unknown> = {}): Promise<DecoderArchitecture> {
  const config = JSON.parse(await readFile(join(CASES, name, 'base/config.json'), 'utf8'));
  const changed = JSON.parse(JSON.stringify({ ...config, ...change }));
  const source = { config: new ConfigFields(changed, 'config.json'), generation: undefined, hasTensor: () => true };
  return FAMILIES.get(changed.model_type)!.readArchitecture(source) as DecoderArchitecture;
}

const windowsOf = (architecture: DecoderArchitecture) =>
  mixersOf(architecture, 'attention').map(({ window }) => window);

test('every family of decoders has a reference case of transformers', async () => {
  const names = await readdir(CASES);
  const configs = names.map(async (name) => JSON.parse(await readFile(join(CASES, name, 'base/config.json'), 'utf8')));
  const types = new Set((await Promise.all(configs)).map((config) => config.model_type));
  expect([...FAMILIES.keys()].filter((type) => !types.has(type))).toEqual(['classifier']);
});

test('every architecture names the family of its language model', async () => {
  for (const name of await readdir(CASES)) {
    const config = JSON.parse(await readFile(join(CASES, name, 'base/config.json'), 'utf8'));
    const { architecture } = await readModelFolder(join(CASES, name, 'base'));
    expect([name, architecture.family]).toEqual([name, config.text_config?.model_type ?? config.model_type]);
  }
});

describe('the linear layers of', () => {
  test.each<[string, string[]]>([
    ['mistral-window', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']],
    ['qwen3', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']],
    ['gemma2', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']],
    ['phi3-window', ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj']],
    ['arcee', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'up_proj', 'down_proj']],
    ['glm4', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_up_proj', 'down_proj']],
    ['granitemoehybrid', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'input_linear', 'output_linear']],
    ['granitemoe', ['q_proj', 'k_proj', 'v_proj', 'o_proj']],
    ['granitemoehybrid-experts', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'input_linear', 'output_linear']],
    [
      'gemma4-text',
      [
        ...['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
        ...['per_layer_input_gate', 'per_layer_projection'],
      ],
    ],
    [
      'deepseek_v3',
      [
        ...['q_a_proj', 'kv_a_proj_with_mqa', 'q_b_proj', 'kv_b_proj', 'o_proj'],
        ...['gate_proj', 'up_proj', 'down_proj'],
      ],
    ],
    ['deepseek_v3-plain', ['q_proj', 'kv_a_proj_with_mqa', 'kv_b_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']],
    [
      'qwen3_5-text',
      ['in_proj_qkv', 'in_proj_z', 'in_proj_b', 'in_proj_a', 'out_proj', 'gate_proj', 'up_proj', 'down_proj'],
    ],
    ['qwen3_next', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'shared_expert_gate']],
    ['gemma4_moe-text', ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'proj']],
  ])('%s', async (name, suffixes) => {
    const folder = await readModelFolder(join(CASES, name, 'base'));
    const own = folder.modules.filter(({ name: path }) => path.startsWith('model.layers.1.'));
    expect(own.map(({ name: path }) => path.slice(path.lastIndexOf('.') + 1))).toEqual(suffixes);
    expect(folder.headModule?.name).toBe('lm_head');
  });

  test('gpt2, with weights stored as [in, out]', async () => {
    const folder = await readModelFolder(join(CASES, 'gpt2/base'));
    expect(folder.modules.slice(4, 8)).toEqual([
      { name: 'transformer.h.1.attn.c_attn', in_features: 24, out_features: 72 },
      { name: 'transformer.h.1.attn.c_proj', in_features: 24, out_features: 24 },
      { name: 'transformer.h.1.mlp.c_fc', in_features: 24, out_features: 96 },
      { name: 'transformer.h.1.mlp.c_proj', in_features: 96, out_features: 24 },
    ]);
    expect(folder.linears.get('transformer.h.1.mlp.c_fc')).toMatchObject({
      weight: 'transformer.h.1.mlp.c_fc.weight',
      bias: 'transformer.h.1.mlp.c_fc.bias',
      transposed: true,
    });
    expect(folder.linears.get('lm_head')).toMatchObject({ weight: 'transformer.wte.weight', transposed: false });
  });

  test("are the targets of PEFT's all-linear", async () => {
    const cases = [
      ...[
        'gpt2-all-linear-options',
        'phi3-longrope-partial',
        'gemma2-uncapped-bias',
        'smollm3-window',
        'granite-biases',
      ],
      ...[
        'granitemoehybrid',
        'granitemoe',
        'granitemoeshared',
        'olmo2',
        'exaone4-no-window',
        'seed_oss',
        'arcee',
        'glm4',
        'ernie4_5',
        'qwen3_5-text',
        'gemma4-text',
        'gemma4_moe-text',
        'qwen2_moe',
        'qwen3_5_moe-text',
        'mistral4',
      ],
    ];
    for (const name of cases) {
      const folder = await readModelFolder(join(CASES, name, 'base'));
      const adapter = await openSafetensors(join(CASES, name, 'adapter_init/adapter_model.safetensors'));
      const adapted = [...adapter.tensors.keys()].flatMap(
        (key) => /^base_model\.model\.(.*)\.lora_A/.exec(key)?.[1] ?? [],
      );
      await adapter.close();
      expect(folder.modules.map((module) => module.name).sort()).toEqual(adapted.sort());
    }
  });
});

test("OpenAI's GPT-2: module names have the prefix, tensor names do not", async () => {
  const base = join(CASES, 'gpt2/base');
  const source = await openSafetensors(join(base, 'model.safetensors'));
  const tensors: { name: string; dtype: Dtype; shape: readonly number[]; data: Uint8Array }[] = [];
  for (const { name, dtype, shape } of source.tensors.values()) {
    tensors.push({ name: name.replace('transformer.', ''), dtype, shape, data: await source.read(name) });
  }
  await source.close();
  // A buffer of old checkpoints with the causal mask.
  tensors.push({ name: 'h.0.attn.bias', dtype: 'U8', shape: [1, 1, 2, 2], data: Uint8Array.of(1, 0, 1, 1) });
  await writeSafetensors(join(root, 'model.safetensors'), tensors);
  await writeFile(join(root, 'config.json'), await readFile(join(base, 'config.json')));
  const folder = await readModelFolder(root);
  const whole = await readModelFolder(base);
  expect(folder.modules).toEqual(whole.modules);
  expect(folder.parameterCount).toBe(whole.parameterCount);
  expect(folder.linears.get('transformer.h.0.attn.c_attn')?.weight).toBe('h.0.attn.c_attn.weight');
});

describe('a composite', () => {
  const tensorsOf = async (name: string) => [...(await readModelFolder(join(CASES, name, 'base'))).tensors.keys()];
  const readWith = async (name: string, change: Record<string, unknown>) => {
    const folder = await mkdtemp(join(root, 'composite-'));
    await cp(join(CASES, name, 'base'), folder, { recursive: true });
    const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...change }));
    return await readModelFolder(folder);
  };

  test.each(['gemma3', 'mistral3', 'mistral3-ministral3'])(
    '%s: the modules are those of the language model',
    async (name) => {
      const folder = await readModelFolder(join(CASES, name, 'base'));
      expect(folder.modules.every(({ name: path }) => path.startsWith('model.language_model.layers.'))).toBe(true);
      expect(folder.headModule?.name).toBe('lm_head');
      const linear = folder.linears.get('model.language_model.layers.1.mlp.up_proj');
      expect(linear?.weight).toBe('language_model.model.layers.1.mlp.up_proj.weight');
      expect((await tensorsOf(name)).some((tensor) => tensor.startsWith('vision_tower.'))).toBe(true);
    },
  );

  test.each([
    ['as the modules', (tensor: string) => tensor.replace('language_model.model.', 'model.language_model.')],
    ['as the language model alone', (tensor: string) => tensor.replace('language_model.', '')],
  ])('files with tensors named %s are the same model', async (_, rename) => {
    const { modules, parameterCount } = await readModelFolder(join(CASES, 'mistral3/base'));
    const config = JSON.parse(await readFile(join(CASES, 'mistral3/base/config.json'), 'utf8'));
    const names = (await tensorsOf('mistral3')).map((name) =>
      rename(name).replace('language_model.lm_head', 'lm_head'),
    );
    const source = {
      config: new ConfigFields(config, 'config.json'),
      generation: undefined,
      hasTensor: (name: string) => names.includes(name),
    };
    const family = FAMILIES.get('mistral3')!;
    const { tensors, linears } = family.layout(family.readArchitecture(source));
    expect(tensors.filter(({ name }) => !names.includes(name))).toEqual([]);
    expect(linears.map(({ name }) => name)).toEqual(modules.map(({ name }) => name));
    expect(tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0)).toBe(
      parameterCount,
    );
  });

  test('the head is tied as the whole config says, and token ids are those of both', async () => {
    const folder = await readWith('gemma3', { eos_token_id: [2, 7], bos_token_id: 3 });
    expect(folder.architecture).toMatchObject({ tiedHead: true, eosTokenIds: [2, 7], bosTokenId: 3 });
    expect((await readModelFolder(join(CASES, 'mistral3/base'))).architecture).toMatchObject({ tiedHead: false });
  });

  test.each<[string, string, Record<string, unknown>]>([
    ['text_config.model_type', 'model_not_supported', { text_config: { model_type: 'qwen3_5_text' } }],
    ['text_config.model_type', 'model_file_corrupt', { text_config: {} }],
    ['text_config', 'model_file_corrupt', { text_config: undefined }],
    ['architectures', 'model_not_supported', { architectures: ['Gemma3ForSequenceClassification'] }],
    ['quantization_config.quant_method', 'model_not_supported', { quantization_config: { quant_method: 'gptq' } }],
    [
      'text_config.quantization_config.quant_method',
      'model_not_supported',
      { text_config: { model_type: 'gemma3_text', quantization_config: { quant_method: 'gptq' } } },
    ],
    [
      'text_config.use_bidirectional_attention',
      'model_not_supported',
      { text_config: { model_type: 'gemma3_text', use_bidirectional_attention: true } },
    ],
  ])('%s is refused as %s', async (field, code, change) => {
    await expect(readWith('gemma3', change)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(`config.json: ${field} `),
    });
  });
});

describe('windows', () => {
  test.each<[string, Record<string, unknown>, (number | null)[]]>([
    ['mistral-window', {}, [7, 7]],
    ['mistral-window', { sliding_window: null }, [null, null]],
    ['mistral-window', { sliding_window: undefined }, [4096, 4096]],
    ['qwen2-window', {}, [null, 9]],
    ['qwen2-window', { layer_types: undefined, max_window_layers: 0 }, [9, 9]],
    ['qwen2-window', { layer_types: undefined, use_sliding_window: false }, [null, null]],
    ['qwen2-window', { layer_types: undefined, sliding_window: null }, [null, null]],
    ['qwen3', { layer_types: undefined, use_sliding_window: true, max_window_layers: undefined }, [null, null]],
    ['qwen3-bias-layer-types', {}, [6, null, 6]],
    ['gemma2', {}, [7, null, 7]],
    ['gemma2', { layer_types: undefined }, [7, null, 7]],
    ['gemma2-uncapped-bias', {}, [null, 5]],
    ['phi3-window', {}, [8, 8]],
    ['phi3-window', { sliding_window: undefined }, [null, null]],
    ['gemma3-text', {}, [7, 7, null, 7]],
    ['gemma3-text-legacy', {}, [5, 5, 5, 5, 5, null, 5]],
    ['gemma3-text', { layer_types: undefined, sliding_window_pattern: 2 }, [7, null, 7, null]],
    ['smollm3-window', {}, [6, null, 6]],
    ['smollm3-window', { layer_types: undefined }, [6, null, 6]],
    ['smollm3-window', { layer_types: undefined, use_sliding_window: false }, [null, null, null]],
    ['olmo3', { layer_types: undefined }, [7, 7, 7, null, 7]],
    ['exaone4', { layer_types: undefined }, [6, 6, 6, null, 6]],
    ['exaone4-no-window', { layer_types: undefined }, [null, null]],
    ['ministral3', {}, [null, null]],
    ['gemma4-text', {}, [7, 7, null, 7, 7, 7, null]],
    ['gemma4-text-keys', { sliding_window: undefined }, [512, 512, 512, 512, 512, null, null]],
    ['gemma4-text-keys', {}, [6, 6, 6, 6, 6, null, null]],
  ])('%s %j: %j', async (name, change, windows) => {
    expect(windowsOf(await architectureOf(name, change))).toEqual(windows);
  });
});

describe('rotary settings by class of layers', () => {
  const ropesOf = (architecture: DecoderArchitecture) =>
    mixersOf(architecture, 'attention').map(({ rope }) => architecture.ropes[rope]);
  const linear = { theta: 1000, scaling: { type: 'linear', factor: 2 } };
  const local = { theta: 50, scaling: null };

  test.each(['gemma3-text', 'gemma3-text-legacy'])('%s: full attention has one, windows another', async (name) => {
    const { ropes } = await architectureOf(name);
    expect(ropes).toEqual([expect.objectContaining(local), expect.objectContaining(linear)]);
  });

  test('gemma3 without fields: theta 1,000,000 and 10,000', async () => {
    const { ropes } = await architectureOf('gemma3-text', { rope_parameters: undefined });
    expect(ropes.map((rope) => rope?.theta)).toEqual([10_000, 1_000_000]);
  });

  test('olmo3: rope_theta and rope_scaling at the top are those of full attention', async () => {
    const { ropes } = await architectureOf('olmo3-legacy');
    expect(ropes).toMatchObject([
      { theta: 500_000, scaling: null },
      { theta: 1000, scaling: { type: 'yarn', originalMaxPositions: 16 } },
    ]);
  });

  test('layers without positions: by list, by interval, and where EXAONE 4 has no window', async () => {
    const hasRope = async (name: string, change: Record<string, unknown> = {}) =>
      ropesOf(await architectureOf(name, change)).map((rope) => (rope === null ? 0 : 1));
    expect(await hasRope('smollm3')).toEqual([1, 1, 1, 0, 1]);
    expect(await hasRope('smollm3', { no_rope_layer_interval: 2 })).toEqual([1, 0, 1, 0, 1]);
    expect(await hasRope('smollm3', { no_rope_layers: [0, 0, 1, 1, 1] })).toEqual([0, 0, 1, 1, 1]);
    expect(await hasRope('exaone4')).toEqual([1, 1, 1, 0, 1]);
    expect(await hasRope('exaone4-no-window')).toEqual([1, 1]);
    expect(await hasRope('granitemoehybrid-no-positions')).toEqual([0, 0]);
  });

  test('glm and ernie rotate neighbouring pairs, glm and nemotron half of a head unless the config differs', async () => {
    const change = { rope_parameters: undefined, partial_rotary_factor: undefined };
    expect((await architectureOf('glm', change)).ropes).toMatchObject([
      { interleaved: true, partialRotaryFactor: 0.5 },
    ]);
    expect((await architectureOf('ernie4_5', change)).ropes).toMatchObject([
      { interleaved: true, partialRotaryFactor: 1, theta: 500_000 },
    ]);
    expect((await architectureOf('nemotron', change)).ropes).toMatchObject([
      { interleaved: false, partialRotaryFactor: 0.5 },
    ]);
    const whole = await architectureOf('glm4', { rope_parameters: { partial_rotary_factor: 1 } });
    expect(whole.ropes).toMatchObject([{ interleaved: true, partialRotaryFactor: 1 }]);
  });
});

describe('gemma4', () => {
  const headsIn = (architecture: DecoderArchitecture) =>
    mixersOf(architecture, 'attention').map(({ headDim, keyValueHeadCount }) => [headDim, keyValueHeadCount]);

  test('heads by layer are read in the form of transformers and in that of the releases', async () => {
    const [sliding, full] = [
      [6, 2],
      [12, 1],
    ];
    const heads = [sliding, sliding, sliding, sliding, sliding, full, full];
    expect(headsIn(await architectureOf('gemma4-text-keys'))).toEqual(heads);
    const entry = { head_dim: 12, num_key_value_heads: 1, hidden_size: 16 };
    const change = { global_head_dim: 20, per_layer_config: { '05': entry, 6: entry, 3: { head_dim: 6 }, 2: null } };
    expect(await architectureOf('gemma4-text-keys', change)).toEqual(await architectureOf('gemma4-text-keys'));
    const ungated = await architectureOf('gemma4-text-keys', { attention_k_eq_v: false });
    expect(headsIn(ungated).at(-1)).toEqual([12, 2]);
    const alike = await architectureOf('gemma4-text-keys', { per_layer_config: null });
    expect(headsIn(alike).at(-1)).toEqual([6, 2]);
  });

  test('the last layers read keys and values of the last one of their type before them, and have wider MLPs', async () => {
    const architecture = await architectureOf('gemma4-text');
    expect(mixersOf(architecture, 'attention').map(({ keysAndValuesOf }) => keysAndValuesOf ?? null)).toEqual([
      ...[null, null, null, null],
      ...[3, 3, 2],
    ]);
    const widths = architecture.layers.map((_, layer) => intermediateSizeOf(architecture, layer));
    expect(widths).toEqual(widths.map((_, layer) => (layer < 4 ? 1 : 2) * architecture.intermediateSize));
    const alone = await architectureOf('gemma4-text', { num_kv_shared_layers: 0 });
    expect(mixersOf(alone, 'attention').every(({ keysAndValuesOf }) => keysAndValuesOf === undefined)).toBe(true);
    expect(alone.layers.map(({ mlp }) => mlp)).toEqual(alone.layers.map(() => ({ kind: 'dense' })));
    const { modules, linears } = await readModelFolder(join(CASES, 'gemma4-text/base'));
    const inputs = modules.filter(({ name }) => name.startsWith('model.layers.6.self_attn.'));
    expect(inputs.map(({ name }) => name.slice(name.lastIndexOf('.') + 1))).toEqual(['q_proj', 'o_proj']);
    expect(linears.get('model.layers.4.mlp.up_proj')).toMatchObject({ outFeatures: 48 });
    expect(modules[0]).toEqual({ name: 'model.per_layer_model_projection', in_features: 16, out_features: 42 });
  });

  test('values are keys where there is no window', async () => {
    const architecture = await architectureOf('gemma4-text-keys');
    expect(mixersOf(architecture, 'attention').map(({ keysAreValues = false }) => keysAreValues)).toEqual([
      ...[false, false, false, false, false],
      ...[true, true],
    ]);
  });

  test('rotary settings: those of the releases where there are none, the first pairs of a head of their size', async () => {
    const { ropes } = await architectureOf('gemma4-text', { rope_parameters: undefined, per_layer_config: undefined });
    expect(ropes).toEqual([
      expect.objectContaining({ theta: 1_000_000, scaling: { type: 'proportional', pairs: 64, factor: 1 } }),
      expect.objectContaining({ theta: 10_000, scaling: null }),
    ]);
    expect((await architectureOf('gemma4-text-keys')).ropes[0]).toMatchObject({
      theta: 1000,
      scaling: { type: 'proportional', pairs: 3, factor: 2 },
    });
  });

  test('without inputs of layers there is no table of them', async () => {
    for (const size of [0, null]) {
      const architecture = await architectureOf('gemma4-text', { hidden_size_per_layer_input: size });
      expect(architecture).toMatchObject({ layerInputs: null, names: { layerInputs: null } });
    }
    expect(await architectureOf('gemma4-text')).toMatchObject({ layerInputs: { size: 6, vocabSize: 64 } });
  });

  test('a composite has them in its language model, however the files are named', async () => {
    const base = join(CASES, 'gemma4/base');
    const { modules, tensors } = await readModelFolder(base);
    expect(modules.every(({ name }) => name.startsWith('model.language_model.'))).toBe(true);
    expect(modules[0]?.name).toBe('model.language_model.per_layer_model_projection');
    const config = new ConfigFields(JSON.parse(await readFile(join(base, 'config.json'), 'utf8')), 'config.json');
    for (const prefix of ['model.', 'language_model.model.']) {
      const names = [...tensors.keys()].map((name) => name.replace('model.language_model.', prefix));
      const hasTensor = (name: string) => names.includes(name);
      const family = FAMILIES.get('gemma4')!;
      const layout = family.layout(family.readArchitecture({ config, generation: undefined, hasTensor }));
      expect(layout.tensors.filter(({ name }) => !names.includes(name))).toEqual([]);
      expect(layout.linears.map(({ name }) => name)).toEqual(modules.map(({ name }) => name));
    }
  });
});

describe('missing and null fields of', () => {
  test('gemma3: sizes that the config of the 4B lacks, no caps', async () => {
    const change = {
      vocab_size: undefined,
      num_attention_heads: undefined,
      num_key_value_heads: undefined,
      head_dim: undefined,
      query_pre_attn_scalar: undefined,
    };
    expect(await architectureOf('gemma3-text', change)).toMatchObject({
      vocabSize: 262_208,
      headCount: 8,
      keyValueHeadCount: 4,
      headDim: 256,
      attention: { softcap: null },
      layers: [{ mixer: { scale: 1 / 16 } }, {}, {}, {}],
      logitSoftcap: null,
    });
  });

  test('granite: all factors are 1, that of the scores too', async () => {
    const change = {
      embedding_multiplier: undefined,
      residual_multiplier: undefined,
      logits_scaling: undefined,
      attention_multiplier: undefined,
    };
    expect(await architectureOf('granite', change)).toMatchObject({
      embeddingScale: 1,
      branchScale: 1,
      logitScale: 1,
      layers: [{ mixer: { scale: 1 } }, { mixer: { scale: 1 } }],
    });
  });

  test('gemma2', async () => {
    const change = {
      attn_logit_softcapping: undefined,
      final_logit_softcapping: undefined,
      query_pre_attn_scalar: undefined,
      hidden_activation: undefined,
      tie_word_embeddings: undefined,
    };
    const architecture = await architectureOf('gemma2', change);
    expect(architecture).toMatchObject({
      embeddingScale: Math.sqrt(24),
      norm: { weightOffset: 1 },
      attention: { softcap: 50 },
      layers: [{ mixer: { scale: 1 / 16 } }, {}, {}],
      mlp: { gated: true, activation: 'gelu_tanh' },
      logitSoftcap: 30,
      tiedHead: true,
    });
    const uncapped = await architectureOf('gemma2-uncapped-bias');
    expect([uncapped.attention.softcap, uncapped.logitSoftcap]).toEqual([null, null]);
    expect(uncapped.bias).toEqual({ queryKeyValue: true, attentionOutput: true, mlp: false });
  });

  test('qwen3: heads have size 128, whatever the hidden size', async () => {
    expect(await architectureOf('qwen3', { head_dim: undefined })).toMatchObject({ headDim: 128 });
  });

  test('gpt2', async () => {
    const change = {
      n_inner: null,
      activation_function: undefined,
      n_positions: undefined,
      tie_word_embeddings: undefined,
    };
    expect(await architectureOf('gpt2', change)).toMatchObject({
      intermediateSize: 96,
      mlp: { gated: false, activation: 'gelu_tanh' },
      maxPositions: 1024,
      tiedHead: true,
      ropes: [null],
    });
    const architecture = await architectureOf('gpt2-all-linear-options');
    expect(mixersOf(architecture, 'attention').map(({ scale }) => scale)).toEqual([1, 1 / 2, 1 / 3]);
  });

  test('an empty eos_token_id does not fall back to the default', async () => {
    expect((await architectureOf('mistral-window', { eos_token_id: null })).eosTokenIds).toEqual([]);
    expect((await architectureOf('mistral-window', { eos_token_id: undefined })).eosTokenIds).toEqual([2]);
  });
});

describe('rope scaling', () => {
  const long = [2, 2, 2, 2];
  const short = [1, 1, 1, 1];
  const longrope = { short_factor: short, long_factor: long };
  const scalingOf = async (parameters: Record<string, unknown>, change: Record<string, unknown> = {}) => {
    const rope = { rope_parameters: undefined, rope_theta: 500, rope_scaling: parameters };
    return (await architectureOf('rope-linear-legacy', { ...rope, ...change })).ropes[0]?.scaling;
  };

  test.each<[Record<string, unknown>, RopeScaling | null]>([
    [{ type: 'default' }, null],
    [
      { rope_type: 'linear', factor: 4 },
      { type: 'linear', factor: 4 },
    ],
    [
      { type: 'dynamic', factor: 2 },
      { type: 'dynamic', factor: 2, maxPositions: 64 },
    ],
    [
      { type: 'yarn', factor: Math.E, original_max_position_embeddings: 32 },
      {
        type: 'yarn',
        factor: Math.E,
        originalMaxPositions: 32,
        betaFast: 32,
        betaSlow: 1,
        truncate: true,
        attentionFactor: 1.1,
      },
    ],
    [
      { type: 'yarn', factor: null, beta_fast: 0, beta_slow: 2, truncate: null, attention_factor: 1.5 },
      {
        type: 'yarn',
        factor: 1,
        originalMaxPositions: 64,
        betaFast: 32,
        betaSlow: 2,
        truncate: false,
        attentionFactor: 1.5,
      },
    ],
    [
      { type: 'yarn', factor: Math.E, mscale: 2, mscale_all_dim: 1 },
      {
        type: 'yarn',
        factor: Math.E,
        originalMaxPositions: 64,
        betaFast: 32,
        betaSlow: 1,
        truncate: true,
        attentionFactor: 1.2 / 1.1,
      },
    ],
    [
      { type: 'longrope', ...longrope, original_max_position_embeddings: 16 },
      {
        type: 'longrope',
        shortFactors: short,
        longFactors: long,
        originalMaxPositions: 16,
        attentionFactor: Math.sqrt(1 + Math.log(4) / Math.log(16)),
      },
    ],
    [
      { type: 'longrope', ...longrope, factor: 0.5 },
      { type: 'longrope', shortFactors: short, longFactors: long, originalMaxPositions: 64, attentionFactor: 1 },
    ],
  ])('%j', async (parameters, expected) => {
    expect(await scalingOf(parameters)).toEqual(expected);
  });

  test('the top-level original positions take precedence over the nested ones', async () => {
    const parameters = { type: 'longrope', ...longrope, original_max_position_embeddings: 16 };
    const scaling = await scalingOf(parameters, { original_max_position_embeddings: 8 });
    expect(scaling).toMatchObject({ originalMaxPositions: 8 });
  });

  test('phi3 accepts "su" and "yarn" for longrope, has 4096 original positions, and rotates a part of each head', async () => {
    const factors = { short_factor: [1, 1], long_factor: [2, 2] };
    for (const type of ['su', 'yarn', 'longrope']) {
      const { ropes } = await architectureOf('phi3-window', {
        rope_parameters: undefined,
        rope_scaling: { type, ...factors },
        original_max_position_embeddings: undefined,
        partial_rotary_factor: 0.7,
      });
      expect(ropes[0]).toMatchObject({
        partialRotaryFactor: 0.7,
        scaling: { type: 'longrope', originalMaxPositions: 4096, attentionFactor: 1 },
      });
    }
  });
});

describe('qwen3_5', () => {
  const linearLayers = ({ layers }: DecoderArchitecture) => layers.map(({ mixer }) => mixer.kind === 'linear');

  test('has attention in the layers that layer_types or the interval names, by default in every fourth', async () => {
    const without = { layer_types: undefined };
    expect(linearLayers(await architectureOf('qwen3_5-text'))).toEqual([true, true, true, false, true]);
    expect(linearLayers(await architectureOf('qwen3_5-text', without))).toEqual([true, true, true, false, true]);
    expect(linearLayers(await architectureOf('qwen3_5-text', { ...without, full_attention_interval: 2 }))).toEqual([
      ...[true, false, true, false, true],
    ]);
    expect(linearLayers(await architectureOf('qwen3_5-text-tied'))).toEqual([false, true, true]);
    const attentionAlone = await architectureOf('qwen3_5-text-tied', { layer_types: Array(3).fill('full_attention') });
    expect(linearLayers(attentionAlone)).toEqual([false, false, false]);
  });

  test('has the sizes of transformers where the config has none', async () => {
    const sizes = ['key_head_dim', 'value_head_dim', 'num_key_heads', 'num_value_heads', 'conv_kernel_dim'];
    const change = Object.fromEntries(sizes.map((size) => [`linear_${size}`, undefined]));
    const { layers, ropes, attention } = await architectureOf('qwen3_5-text-tied', change);
    const linear = {
      ...{
        kind: 'linear',
        keyHeadCount: 16,
        valueHeadCount: 32,
        keyHeadDim: 128,
        valueHeadDim: 128,
        convolutionTaps: 4,
      },
    };
    const own = { kind: 'attention', scale: 1 / 4, window: null, rope: 0 };
    expect(layers).toEqual([own, linear, linear].map((mixer) => ({ mixer, mlp: { kind: 'dense' } })));
    expect(ropes).toMatchObject([{ theta: 10_000, partialRotaryFactor: 0.25, sections: [11, 11, 10] }]);
    expect(attention.outputGate).toBe('sigmoid');
  });

  test('keeps the sections of rotary positions, and a composite without a tied head by default', async () => {
    const { ropes, tiedHead, family, names } = await architectureOf('qwen3_5', { tie_word_embeddings: undefined });
    const rope = { theta: 1000, partialRotaryFactor: 0.25, interleaved: false, scaling: null, sections: [1, 1, 0] };
    expect(ropes).toEqual([rope]);
    expect({ tiedHead, family }).toEqual({ tiedHead: false, family: 'qwen3_5_text' });
    expect(names.layers).toBe('model.language_model.layers');
  });

  test.each([
    ['A_log', [3]],
    ['dt_bias', [4, 1]],
    ['conv1d.weight', [72, 4]],
    ['norm.weight', [9]],
  ])('names %s where it has another shape than config.json says', async (part, shape) => {
    const base = join(CASES, 'qwen3_5-text/base');
    const name = `model.layers.2.linear_attn.${part}`;
    const folder = await mkdtemp(join(root, 'qwen-'));
    const source = await openSafetensors(join(base, 'model.safetensors'));
    const tensors: { name: string; dtype: Dtype; shape: readonly number[]; data: Uint8Array }[] = [];
    for (const entry of source.tensors.values()) {
      const data = await source.read(entry.name);
      if (entry.name !== name) tensors.push({ ...entry, data });
    }
    await source.close();
    const bytes = 4 * shape.reduce((product, size) => product * size, 1);
    tensors.push({ name, dtype: 'F32', shape, data: new Uint8Array(bytes) });
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    await cp(join(base, 'config.json'), join(folder, 'config.json'));
    await expect(readModelFolder(folder)).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining(`tensor ${name} has the shape [${shape.join(', ')}]; config.json requires [`),
    });
  });
});

test.each<[Record<string, unknown>, number]>([
  [{ type: 'linear', factor: 4 }, 64],
  [{ type: 'dynamic', factor: 2.5 }, 160],
  [{ type: 'dynamic', factor: 0.5 }, 64],
  [{ type: 'yarn', factor: 4 }, 256],
  [{ type: 'yarn', factor: 2, original_max_position_embeddings: 16 }, 64],
  [{ type: 'yarn', factor: 8, original_max_position_embeddings: 16 }, 128],
  [{ type: 'dynamic', factor: 1e12 }, 2 ** 31 - 1],
])('scaling extends the maximum positions: %j of 64 gives %i', async (rope_scaling, positions) => {
  const { maxPositions } = await architectureOf('rope-linear-legacy', { rope_parameters: undefined, rope_scaling });
  expect(maxPositions).toBe(positions);
});

test('gpt2 accepts the common names of its sizes, which take precedence over its own', async () => {
  const own = { n_embd: undefined, n_layer: undefined, n_head: undefined, n_positions: undefined };
  const named = { hidden_size: 24, num_hidden_layers: 3, num_attention_heads: 4, max_position_embeddings: 40 };
  const plain = await architectureOf('gpt2');
  expect(await architectureOf('gpt2', { ...own, ...named })).toEqual(plain);
  expect(await architectureOf('gpt2', { n_embd: 12, n_positions: 8, ...named })).toEqual(plain);
  await expect(architectureOf('gpt2', { ...own, ...named, hidden_size: 23 })).rejects.toThrow('hidden_size 23 is not');
});

test.each<[string, Record<string, unknown>, string[]]>([
  ['rope-linear-legacy', {}, []],
  ['rope-linear-legacy', { attention_dropout: 0.2 }, ['attention_dropout']],
  ['phi3-window', { resid_pdrop: 0.1, embd_pdrop: undefined }, ['resid_pdrop']],
  ['gpt2', { attn_pdrop: 0, resid_pdrop: 0.1, embd_pdrop: undefined }, ['resid_pdrop', 'embd_pdrop']],
])('%s with %j reports the ignored dropout %j', async (name, change, fields) => {
  expect((await architectureOf(name, change)).ignoredDropout).toEqual(fields);
});

describe('reports model_not_supported with the name of the field', () => {
  const rope = (parameters: Record<string, unknown>) => ({ rope_parameters: parameters });
  test.each<[string, string, Record<string, unknown>]>([
    ['mistral-window', 'layer_types', { layer_types: ['sliding_attention', 'full_attention'] }],
    ['mistral-window', 'architectures', { architectures: ['MistralForSequenceClassification'] }],
    ['qwen2-window', 'layer_types', { layer_types: ['chunked_attention', 'full_attention'] }],
    ['qwen3', 'rope_parameters.sliding_attention', rope({ sliding_attention: { rope_type: 'default' } })],
    ['qwen3', 'rope_parameters.partial_rotary_factor', rope({ partial_rotary_factor: 0.5 })],
    ['gemma2', 'use_bidirectional_attention', { use_bidirectional_attention: true }],
    ['gemma2', 'hidden_activation', { hidden_activation: 'xielu' }],
    ['phi3-window', 'rope_parameters.rope_type', rope({ rope_type: 'linear', factor: 2 })],
    ['gemma3-text', 'use_bidirectional_attention', { use_bidirectional_attention: true }],
    ['gemma3-text', 'rope_parameters.rope_type', rope({ rope_type: 'linear', factor: 2 })],
    ['olmo3', 'rope_parameters.full_attention.rope_type', rope({ full_attention: { rope_type: 'proportional' } })],
    ['exaone4', 'sliding_window_pattern', { sliding_window_pattern: 'LLLG', layer_types: undefined }],
    ['granitemoe', 'num_local_experts', { num_local_experts: 0 }],
    ['granitemoeshared', 'num_local_experts', { num_local_experts: 2048 }],
    ['granitemoehybrid', 'layer_types', { layer_types: ['linear_attention', 'full_attention'] }],
    ['granitemoehybrid', 'layer_types', { layer_types: undefined }],
    ['granitemoehybrid', 'layers_block_type', { layers_block_type: ['mamba', 'attention'] }],
    ['granitemoehybrid', 'position_embedding_type', { position_embedding_type: 'alibi' }],
    ['qwen3_5-text', 'layer_types', { layer_types: Array(5).fill('mamba') }],
    ['qwen3_5-text', 'layer_types', { layer_types: Array(5).fill('sliding_attention') }],
    ['qwen3_5-text', 'hidden_act', { hidden_act: 'gelu' }],
    ['gemma4-text', 'use_bidirectional_attention', { use_bidirectional_attention: 'all' }],
    ['gemma4-text', 'layer_types', { layer_types: Array(7).fill('linear_attention') }],
    ['gemma4-text', 'per_layer_config.2.intermediate_size', { per_layer_config: { 2: { intermediate_size: 48 } } }],
    ['gemma4-text', 'per_layer_config.2.skip', { per_layer_config: { 2: { skip: ['mlp'] } } }],
    ['gemma4-text', 'rope_parameters.full_attention.rope_type', rope({ full_attention: { rope_type: 'yarn' } })],
    ['gpt2', 'add_cross_attention', { add_cross_attention: true }],
    ['gpt2', 'activation_function', { activation_function: 'mish' }],
    ['gpt2', 'n_embd', { n_head: 8 }],
  ])('%s: %s', async (name, field, change) => {
    await expect(architectureOf(name, change)).rejects.toMatchObject({
      code: 'model_not_supported',
      message: expect.stringContaining(`config.json: ${field} `),
    });
  });
});

describe('reports model_file_corrupt with the name of the field', () => {
  const rope = (parameters: Record<string, unknown>) => ({ rope_parameters: parameters });
  test.each<[string, string, Record<string, unknown>]>([
    ['mistral-window', 'sliding_window', { sliding_window: 0 }],
    ['qwen2-window', 'layer_types', { use_sliding_window: false }],
    ['qwen2-window', 'layer_types', { layer_types: ['full_attention'] }],
    ['qwen2-window', 'max_window_layers', { max_window_layers: -1 }],
    ['gemma2', 'layer_types', { sliding_window: null }],
    ['gemma2', 'attn_logit_softcapping', { attn_logit_softcapping: 0 }],
    ['phi3-window', 'rope_parameters.partial_rotary_factor', rope({ partial_rotary_factor: 1.5 })],
    [
      'phi3-window',
      'rope_parameters.long_factor',
      rope({ rope_type: 'su', short_factor: [1, 1, 1], long_factor: [1] }),
    ],
    ['rope-yarn', 'rope_parameters.beta_fast', rope({ rope_type: 'yarn', factor: 2, beta_fast: 'fast' })],
    ['rope-dynamic', 'rope_parameters.factor', rope({ rope_type: 'dynamic' })],
    ['gpt2', 'n_embd', { n_head: 5 }],
    ['smollm3', 'no_rope_layers', { no_rope_layers: [1, 0] }],
    ['granite', 'residual_multiplier', { residual_multiplier: 0 }],
    ['ministral3', 'rope_parameters', { rope_parameters: undefined }],
    ['qwen3_5-text', 'layer_types', { layer_types: ['full_attention'] }],
    ['qwen3_5-text', 'linear_num_value_heads', { linear_num_value_heads: 3 }],
    ['qwen3_5-text', 'linear_conv_kernel_dim', { linear_conv_kernel_dim: 0 }],
    ['qwen3_5-text', 'full_attention_interval', { full_attention_interval: 0 }],
    ['ministral3', 'rope_parameters.llama_4_scaling_beta', rope({ type: 'yarn', factor: 2 })],
    ['gemma4-text', 'per_layer_config', { per_layer_config: { 7: { head_dim: 10 } } }],
    ['gemma4-text', 'per_layer_config', { per_layer_config: { all: { head_dim: 10 } } }],
    ['gemma4-text', 'per_layer_config', { per_layer_config: { 2: { head_dim: 10 }, '02': { head_dim: 8 } } }],
    ['gemma4-text', 'per_layer_config', { per_layer_config: { 2: { head_dim: 10 }, 6: { head_dim: 8 } } }],
    ['gemma4-text', 'per_layer_config.2.head_dim', { per_layer_config: { 2: { head_dim: 9 } } }],
    ['gemma4-text', 'per_layer_config.2.num_key_value_heads', { per_layer_config: { 2: { num_key_value_heads: 3 } } }],
    ['gemma4-text', 'per_layer_config.2', { per_layer_config: { 2: 10 } }],
    ['gemma4-text', 'per_layer_config', { per_layer_config: [] }],
    ['gemma4-text', 'global_head_dim', { per_layer_config: undefined, global_head_dim: 9 }],
    ['gemma4-text-keys', 'num_global_key_value_heads', { num_global_key_value_heads: 3 }],
    ['gemma4-text', 'num_kv_shared_layers', { num_kv_shared_layers: 5 }],
    ['gemma4-text', 'num_kv_shared_layers', { num_kv_shared_layers: 7 }],
    ['gemma4-text', 'num_kv_shared_layers', { num_kv_shared_layers: 2 ** 40 }],
    ['gemma4-text', 'num_kv_shared_layers', { num_kv_shared_layers: -1 }],
    ['gemma4-text', 'vocab_size_per_layer_input', { vocab_size_per_layer_input: 63 }],
    ['gemma4-text', 'hidden_size_per_layer_input', { hidden_size_per_layer_input: -1 }],
    ['gemma4-text', 'layer_types', { layer_types: ['full_attention'] }],
    ['gemma4-text', 'sliding_window', { sliding_window: 0 }],
    ['gemma4-text', 'rope_parameters.full_attention', rope({ sliding_attention: { rope_type: 'default' } })],
    [
      'gemma4-text',
      'rope_parameters.full_attention.partial_rotary_factor',
      rope({ full_attention: { rope_type: 'proportional', partial_rotary_factor: 2 } }),
    ],
    [
      'gemma4-text',
      'rope_parameters.full_attention.partial_rotary_factor',
      rope({ full_attention: { rope_type: 'proportional', partial_rotary_factor: 0.1 } }),
    ],
  ])('%s: %s', async (name, field, change) => {
    await expect(architectureOf(name, change)).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining(`config.json: ${field} `),
    });
  });
});

describe('gpt_oss', () => {
  const OSS = 'gpt_oss-mxfp4';

  test('has sinks, a clamped unit, YaRN, and a window in every second layer, from the first', async () => {
    const architecture = await architectureOf(OSS);
    expect(architecture).toMatchObject({
      ...{ names: { sinks: 'self_attn.sinks' }, mlp: { activation: 'quick_gelu', clampedAt: 7 } },
      ropes: [{ theta: 1000, scaling: { type: 'yarn', factor: 4, originalMaxPositions: 16, truncate: false } }],
      bias: { queryKeyValue: true, attentionOutput: true, mlp: false },
    });
    expect(windowsOf(architecture)).toEqual([7, null]);
    expect(windowsOf(await architectureOf(OSS, { layer_types: undefined, num_hidden_layers: 3 }))).toEqual([
      7,
      null,
      7,
    ]);
  });

  test('without rotary settings has those of transformers, and in the form of the releases the same', async () => {
    const yarn = { factor: 32, beta_fast: 32, beta_slow: 1, truncate: false, original_max_position_embeddings: 4096 };
    const none = await architectureOf(OSS, { rope_parameters: undefined });
    const released = { rope_parameters: undefined, rope_theta: 150_000, rope_scaling: { rope_type: 'yarn', ...yarn } };
    expect(none.ropes).toEqual((await architectureOf(OSS, released)).ropes);
    expect(none.ropes).toMatchObject([{ theta: 150_000, scaling: { attentionFactor: 0.1 * Math.log(32) + 1 } }]);
    const maxPositions = 131_072;
    expect(await architectureOf(OSS, { ...released, max_position_embeddings: maxPositions })).toMatchObject({
      maxPositions,
    });
  });

  test.each<[Record<string, unknown>, string]>([
    [{ swiglu_alpha: 1.5 }, 'swiglu_alpha 1.5 is not supported; 1.702 is'],
    [{ swiglu_limit: 0 }, 'swiglu_limit must be a number above 0'],
    [{ hidden_act: 'gelu' }, 'hidden_act "gelu" is not supported; silu is'],
    [{ sliding_window: null }, 'layer_types contains "sliding_attention", but sliding_window is missing'],
    [{ num_local_experts: 2000 }, 'num_local_experts must be an integer from 1 to 1024'],
  ])('is refused with %j', async (change, message) => {
    await expect(architectureOf(OSS, change)).rejects.toThrow(message);
  });
});

describe('mixtures of experts', () => {
  const expertsIn = ({ layers }: DecoderArchitecture) => {
    const [experts] = layers.flatMap(({ mlp }) => (hasExperts(mlp) ? [mlp.experts] : []));
    return experts === undefined ? null : { ...experts, layers: layers.map(({ mlp }) => hasExperts(mlp)) };
  };
  const expertsOf = async (name: string, change: Record<string, unknown> = {}) =>
    expertsIn(await architectureOf(name, change));

  test('have the settings of their config', async () => {
    expect(await expertsOf('qwen3_moe')).toMatchObject({
      layers: [true, false, true],
      count: 5,
      perToken: 2,
      intermediateSize: 14,
      renormalized: true,
      shared: null,
    });
    expect(await expertsOf('qwen3_moe-fused')).toMatchObject({
      layers: [false, true, false, true],
      renormalized: false,
    });
    expect(await expertsOf('qwen2_moe')).toMatchObject({ layers: [true, true], shared: { intermediateSize: 20 } });
    expect(await expertsOf('qwen3_next', { norm_topk_prob: undefined })).toMatchObject({
      ...{ layers: [true, true, true], renormalized: true },
      shared: { intermediateSize: 20 },
    });
    const other = { mlp_only_layers: [0], norm_topk_prob: false };
    expect(await expertsOf('qwen3_next', other)).toMatchObject({ layers: [false, true, true], renormalized: false });
    // Weights of Qwen3.5 sum to one whatever the config says. A composite's experts are looked for by its names.
    expect(await expertsOf('qwen3_5_moe-text', { norm_topk_prob: false })).toMatchObject({
      ...{ layers: [true, true, true], count: 5, perToken: 2, renormalized: true },
      shared: { intermediateSize: 20 },
    });
    const composite = await readModelFolder(join(CASES, 'qwen3_5_moe/base'));
    expect(expertsIn(composite.architecture as DecoderArchitecture)).toMatchObject({
      layers: [true, true],
      files: 'fused',
    });
    expect(await expertsOf('glm4_moe')).toMatchObject({
      ...{ layers: [false, true, true], count: 6, perToken: 2, renormalized: true },
      ...{ sigmoid: { groups: 3, groupsPerToken: 2, scale: 1.5 }, shared: { intermediateSize: 28 } },
    });
    expect(await expertsOf('glm4_moe-plain')).toMatchObject({ layers: [true, true], renormalized: false });
    expect(await expertsOf('gpt_oss-mxfp4')).toMatchObject({
      ...{ layers: [true, true], count: 5, perToken: 2, intermediateSize: 64, renormalized: true },
      ...{ biases: true, shared: null, files: 'mxfp4' },
    });
    expect(await expertsOf('granitemoe')).toMatchObject({
      ...{ layers: [true, true], count: 5, perToken: 2, intermediateSize: 14, renormalized: true, shared: null },
      files: 'fused',
    });
    const defaults = { num_experts_per_tok: undefined, num_local_experts: undefined };
    expect(await expertsOf('granitemoe', defaults)).toMatchObject({ count: 8, perToken: 2 });
    const shared = { shared: { intermediateSize: 20 } };
    expect(await expertsOf('granitemoeshared')).toMatchObject(shared);
    expect(await expertsOf('granitemoeshared', { shared_intermediate_size: undefined })).toMatchObject({
      shared: null,
    });
    expect(await expertsOf('granitemoehybrid-experts')).toMatchObject({ count: 5, ...shared });
    expect(await expertsOf('granitemoehybrid')).toBeNull();
    expect(await expertsOf('gemma4_moe-text')).toMatchObject({
      ...{ layers: [true, true, true], count: 5, perToken: 2, intermediateSize: 14, renormalized: true, shared: null },
    });
    expect(await expertsOf('gemma4_moe-text', { enable_moe_block: false })).toBeNull();
    const fused = await architectureOf('qwen3_moe-fused');
    expect(windowsOf(fused)).toEqual([9, 9, 9, 9]);
    expect(fused.bias).toEqual({ queryKeyValue: true, attentionOutput: true, mlp: false });
    expect((await architectureOf('qwen2_moe')).bias).toMatchObject({ queryKeyValue: true, attentionOutput: false });
  });

  test('in files each by itself or fused have the same layout in memory', async () => {
    for (const [name, tensors] of [
      ['qwen3_moe', ['mlp.experts.0.gate_proj.weight', 'mlp.experts.4.down_proj.weight']],
      ['qwen3_moe-fused', ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj']],
      ['granitemoe', ['block_sparse_moe.input_linear.weight', 'block_sparse_moe.output_linear.weight']],
    ] as const) {
      const folder = await readModelFolder(join(CASES, name, 'base'));
      const layer = name === 'granitemoe' ? 1 : name === 'qwen3_moe' ? 2 : 3;
      for (const tensor of tensors) expect(folder.tensors.has(`model.layers.${layer}.${tensor}`)).toBe(true);
      expect(expertsIn(folder.architecture as DecoderArchitecture)?.files).toBe(
        name === 'qwen3_moe' ? 'each' : 'fused',
      );
      expect(folder.parameterCount).toBe(
        [...folder.tensors.values()].reduce((sum, { entry }) => sum + entry.shape.reduce((a, b) => a * b, 1), 0),
      );
    }
  });

  test.each<[string, Record<string, unknown>, Partial<Experts & { layers: boolean[] }>]>([
    ['the number of experts by its other name', { num_experts: undefined, num_local_experts: 7 }, { count: 7 }],
    ['both names', { num_experts: 5, num_local_experts: 5 }, { count: 5 }],
    ['every second layer', { decoder_sparse_step: 2, mlp_only_layers: [] }, { layers: [false, true, false] }],
    ['null for no dense layer', { mlp_only_layers: null }, { layers: [true, true, true] }],
    [
      'defaults of transformers',
      { norm_topk_prob: undefined, moe_intermediate_size: undefined },
      { renormalized: false, intermediateSize: 768 },
    ],
  ])('read %s', async (_, change, expected) => {
    expect(await expertsOf('qwen3_moe', change)).toMatchObject(expected);
  });

  test('without experts, or without a sparse layer, are dense models', async () => {
    expect(await expertsOf('qwen3_moe', { num_experts: 0, num_local_experts: undefined })).toBeNull();
    expect(await expertsOf('qwen3_moe', { mlp_only_layers: [0, 1, 2] })).toBeNull();
  });

  test.each<[Record<string, unknown>, string]>([
    [{ num_experts_per_tok: 6 }, 'num_experts_per_tok 6 is more than the 5 experts'],
    [{ num_experts_per_tok: 0 }, 'num_experts_per_tok must be an integer from 1'],
    [{ num_experts: 5, num_local_experts: 6 }, 'num_local_experts 6 is not num_experts 5'],
    [
      { num_experts: 4096, num_local_experts: undefined },
      'num_experts 4096 is not supported: at most 1024 experts are',
    ],
    [{ mlp_only_layers: ['1'] }, 'mlp_only_layers must list indices of layers'],
    [{ mlp_only_layers: 1 }, 'mlp_only_layers must list indices of layers'],
    [{ decoder_sparse_step: 0 }, 'decoder_sparse_step must be an integer from 1'],
    [{ moe_intermediate_size: -3 }, 'moe_intermediate_size must be an integer from 1'],
    [{ norm_topk_prob: 'yes' }, 'norm_topk_prob must be true or false'],
  ])('are refused with %o', async (change, message) => {
    await expect(expertsOf('qwen3_moe', change)).rejects.toThrow(message);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['granitemoe', { num_experts_per_tok: 6 }, 'num_experts_per_tok 6 is more than the 5 experts'],
    ['gemma4_moe-text', { num_experts: null }, 'num_experts is missing'],
    ['gemma4_moe-text', { top_k_experts: 6 }, 'top_k_experts 6 is more than the 5 experts'],
    ['gemma4_moe-text', { moe_intermediate_size: undefined }, 'moe_intermediate_size is missing'],
    ['granitemoeshared', { shared_intermediate_size: -1 }, 'shared_intermediate_size must be an integer from 0'],
  ])('of %s are refused with %o', async (name, change, message) => {
    await expect(expertsOf(name, change)).rejects.toThrow(message);
  });

  test.each<[Record<string, unknown>, string]>([
    [{ n_group: 4 }, 'n_group 4 groups of at least two experts cannot be made of 6'],
    [{ n_group: 6 }, 'n_group 6 groups of at least two experts cannot be made of 6'],
    [{ topk_group: 4 }, 'topk_group 4 is more than the 3 groups'],
    [
      { topk_group: 1, num_experts_per_tok: 3 },
      'num_experts_per_tok 3 is more than the 2 experts of topk_group groups',
    ],
    [{ n_routed_experts: 0 }, 'n_routed_experts must be an integer from 1'],
    [{ n_shared_experts: 0 }, 'n_shared_experts must be an integer from 1'],
    [{ routed_scaling_factor: 0 }, 'routed_scaling_factor must be'],
    [{ first_k_dense_replace: -1 }, 'first_k_dense_replace must be'],
  ])('whose router scores by sigmoid are refused with %o', async (change, message) => {
    await expect(expertsOf('glm4_moe', change)).rejects.toThrow(message);
  });

  /** A copy of a case whose tensors are changed. */
  async function withTensors(name: string, change: (tensors: Map<string, ChangedTensor>) => void): Promise<string> {
    const folder = join(await mkdtemp(join(root, 'experts-')), 'model');
    await cp(join(CASES, name, 'base'), folder, { recursive: true });
    const source = await openSafetensors(join(folder, 'model.safetensors'));
    const tensors = new Map<string, ChangedTensor>();
    for (const { name: tensor, dtype, shape } of source.tensors.values()) {
      tensors.set(tensor, { dtype, shape, data: await source.read(tensor) });
    }
    await source.close();
    change(tensors);
    const all = [...tensors].map(([tensor, own]) => ({ name: tensor, ...own }));
    await writeSafetensors(join(folder, 'model.safetensors'), all);
    return folder;
  }

  const EXPERTS = 'model.layers.2.mlp.experts';
  test.each<[string, string, (tensors: Map<string, ChangedTensor>) => void, string]>([
    [
      'that are fused in one layer and separate in another',
      'qwen3_moe',
      (tensors) => {
        tensors.set(`${EXPERTS}.gate_up_proj`, tensors.get(`${EXPERTS}.0.gate_proj.weight`)!);
      },
      'tensor model.layers.0.mlp.experts.0.gate_proj.weight is of one expert, but others are fused in tensors such as model.layers.0.mlp.experts.gate_up_proj: experts must be fused in all layers or in none',
    ],
    [
      'whose down projections alone are separate',
      'qwen3_moe-fused',
      (tensors) => {
        const fused = tensors.get('model.layers.3.mlp.experts.down_proj')!;
        tensors.delete('model.layers.3.mlp.experts.down_proj');
        tensors.set('model.layers.3.mlp.experts.0.down_proj.weight', fused);
      },
      'tensor model.layers.3.mlp.experts.0.down_proj.weight is of one expert, but others are fused',
    ],
    [
      'more than the config says',
      'qwen3_moe',
      (tensors) => {
        tensors.set(`${EXPERTS}.5.up_proj.weight`, tensors.get(`${EXPERTS}.4.up_proj.weight`)!);
      },
      `tensor ${EXPERTS}.5.up_proj.weight is of a further expert: by config.json a layer has 5, from 0`,
    ],
    [
      'one of which is missing',
      'qwen3_moe',
      (tensors) => void tensors.delete(`${EXPERTS}.3.up_proj.weight`),
      `no weight file contains the tensor ${EXPERTS}.3.up_proj.weight`,
    ],
    [
      'without a router',
      'qwen3_moe',
      (tensors) => void tensors.delete('model.layers.2.mlp.gate.weight'),
      'no weight file contains the tensor model.layers.2.mlp.gate.weight',
    ],
    [
      'of another width',
      'qwen3_moe-fused',
      (tensors) => {
        const fused = tensors.get('model.layers.3.mlp.experts.down_proj')!;
        tensors.set('model.layers.3.mlp.experts.down_proj', { ...fused, shape: [5, 14, 16] });
      },
      'model.layers.3.mlp.experts.down_proj has the shape [5, 14, 16]; config.json requires [5, 16, 14]',
    ],
  ])('refuse experts %s', async (_, name, change, message) => {
    await expect(readModelFolder(await withTensors(name, change))).rejects.toThrow(message);
  });

  test('are not quantized on load where blocks would cross rows', async () => {
    const model = await readModelFolder(join(CASES, 'qwen3_moe/base'));
    expect(() => withBaseQuantization(model, 'nf4')).toThrow(
      'has experts whose rows of 16 numbers are not made of blocks of 64, so that they cannot stay quantized: leave base_quantization out',
    );
  });

  test('keep routers that are linear layers when they are quantized on load', async () => {
    const model = await readModelFolder(join(CASES, 'gemma4_moe-text/base'));
    // Its experts are too narrow.
    const { quantized } = withBaseQuantization({ ...model, expertParameters: new Map() }, 'nf4');
    const layers = [...model.linears.values()].map(({ weight }) => weight);
    const kept = layers.filter((weight) => !quantized.has(weight));
    expect(kept).toEqual([...[0, 1, 2].map((layer) => `model.layers.${layer}.router.proj.weight`), 'lm_head.weight']);
  });
});

interface ChangedTensor {
  dtype: Dtype;
  shape: readonly number[];
  data: Uint8Array;
}

describe('latent attention', () => {
  test('is read with the defaults of transformers', async () => {
    const { layers, headDim, ropes, bias } = await architectureOf('deepseek_v3');
    const magnitude = 0.1 * 1.2 * Math.log(4) + 1;
    const mixer = {
      ...{ kind: 'latent', scale: expect.closeTo(10 ** -0.5 * magnitude ** 2, 12), window: null, rope: 0 },
      ...{ queryRank: 12, keyValueRank: 8, plainDim: 6, rotaryDim: 4, valueDim: 5 },
      normEpsilon: 1e-6,
    };
    expect(layers).toEqual(layers.map(({ mlp }) => ({ mixer, mlp })));
    // Of keys of 10 numbers and values of 5, the next multiple of 4.
    expect(headDim).toBe(12);
    expect(ropes).toMatchObject([{ interleaved: true, partialRotaryFactor: 1, scaling: { type: 'yarn', factor: 4 } }]);
    expect(bias).toEqual({ queryKeyValue: true, attentionOutput: true, mlp: false });
    const plain = await architectureOf('deepseek_v3-plain');
    expect(plain.layers[0]!.mixer).toMatchObject({ queryRank: null, valueDim: 14, scale: 7 ** -0.5 });
    expect(plain.headDim).toBe(16);
    expect(plain.ropes[0]!.interleaved).toBe(false);
    const sizes = ['q_lora_rank', 'kv_lora_rank', 'qk_nope_head_dim', 'qk_rope_head_dim', 'v_head_dim'];
    const missing = Object.fromEntries(sizes.map((field) => [field, undefined]));
    expect((await architectureOf('deepseek_v3', missing)).layers[0]!.mixer).toMatchObject({
      ...{ queryRank: 1536, keyValueRank: 512, plainDim: 128, rotaryDim: 64, valueDim: 128 },
    });
    expect((await architectureOf('glm4_moe_lite', missing)).layers[0]!.mixer).toMatchObject({
      ...{ queryRank: 768, keyValueRank: 512, plainDim: 192, rotaryDim: 64, valueDim: 256 },
    });
    const { attention: growing, ropes: turning, layers: sparse } = await architectureOf('mistral4');
    expect(growing.queryGrowth).toEqual({ beta: 0.4, originalMaxPositions: 16 });
    expect(turning).toMatchObject([{ partialRotaryFactor: 1 }]);
    expect(sparse[0]!.mlp).toMatchObject({ kind: 'sparse', experts: { sigmoid: undefined, renormalized: true } });
  });

  test('is of a model that brings the code of its family, which is not run', async () => {
    const folder = await mkdtemp(join(root, 'auto-map-'));
    const reading = async (name: string, auto_map: unknown) => {
      await cp(join(CASES, name, 'base'), folder, { recursive: true });
      const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
      await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, auto_map }));
      return await readModelFolder(folder);
    };
    const known = { AutoConfig: 'configuration_deepseek.DeepseekV3Config' };
    expect((await reading('deepseek_v3', known)).architecture.family).toBe('deepseek_v3');
    for (const other of [{ AutoModel: 'modeling.DeepseekV3ModelPlus' }, {}, 5, { AutoModel: ['a', 'b'] }]) {
      await expect(reading('deepseek_v3', other)).rejects.toThrow(
        /: auto_map .* is not supported: Lorasmith never runs/,
      );
    }
    await expect(reading('glm4_moe_lite', known)).rejects.toThrow(
      /: auto_map .* is not supported: Lorasmith never runs/,
    );
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['deepseek_v3', { qk_rope_head_dim: 3 }, 'qk_rope_head_dim 3 is odd'],
    ['deepseek_v3', { kv_lora_rank: 0 }, 'kv_lora_rank must be an integer from 1'],
    ['deepseek_v3', { q_lora_rank: -1 }, 'q_lora_rank must be an integer from 1'],
    ['deepseek_v3', { num_key_value_heads: 2 }, 'num_key_value_heads 2 is not num_attention_heads 4'],
    ['deepseek_v3', { rope_interleave: 1 }, 'rope_interleave must be true or false'],
    ['deepseek_v3-plain', { attention_bias: true }, 'attention_bias true is not supported without q_lora_rank'],
    [
      'glm4_moe_lite',
      { mlp_layer_types: ['dense'] },
      'mlp_layer_types must list "dense" or "sparse" for each of the 3',
    ],
    ['glm4_moe_lite', { mlp_layer_types: ['dense', 'sparse', 'wide'] }, 'mlp_layer_types must list'],
    ['mistral4', { rope_parameters: undefined }, 'rope_parameters is missing'],
    ['mistral4', { qk_rope_head_dim: 2 }, 'rope_parameters must turn the 2 numbers of qk_rope_head_dim'],
    ['mistral4', { n_group: 2, n_routed_experts: 6 }, 'n_group 2 is not supported: 1 is'],
    ['mistral4', { routed_scaling_factor: 2 }, 'routed_scaling_factor 2 is not supported: 1 is'],
  ])('of %s is refused with %o', async (name, change, message) => {
    await expect(architectureOf(name, change)).rejects.toThrow(message);
  });
});
