import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { writeSafetensors } from '@lorasmith/weight-files';

/** Qwen2 with experts in small: the widths of an MLP, of a shared expert and of all experts of a token differ. */
const QWEN_EXPERTS = {
  model_type: 'qwen2_moe',
  vocab_size: 2048,
  hidden_size: 256,
  intermediate_size: 640,
  moe_intermediate_size: 192,
  shared_expert_intermediate_size: 320,
  num_experts: 12,
  num_experts_per_tok: 4,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 32,
  mlp_only_layers: [1],
  max_position_embeddings: 1024,
  tie_word_embeddings: true,
};

/** Writes a base model with experts and arbitrary weights, and removes it after `use`. */
export async function withProbeExperts<Result>(use: (folder: ModelFolder) => Promise<Result>): Promise<Result> {
  return await withProbeFolder(QWEN_EXPERTS, qwenShapes(), use);
}

function qwenShapes(): TensorShape[] {
  const { hidden_size: hidden, num_hidden_layers: layers, num_experts: experts } = QWEN_EXPERTS;
  const attended = QWEN_EXPERTS.num_attention_heads * QWEN_EXPERTS.head_dim;
  const keys = QWEN_EXPERTS.num_key_value_heads * QWEN_EXPERTS.head_dim;
  const ofLayers = Array.from({ length: layers }, (_, layer) => layer).flatMap((layer) => {
    const mlp = (path: string, intermediate: number): TensorShape[] => [
      [`${path}.gate_proj.weight`, [intermediate, hidden]],
      [`${path}.up_proj.weight`, [intermediate, hidden]],
      [`${path}.down_proj.weight`, [hidden, intermediate]],
    ];
    const sparse: TensorShape[] = [
      ['mlp.gate.weight', [experts, hidden]],
      ['mlp.experts.gate_up_proj', [experts, 2 * QWEN_EXPERTS.moe_intermediate_size, hidden]],
      ['mlp.experts.down_proj', [experts, hidden, QWEN_EXPERTS.moe_intermediate_size]],
      ...mlp('mlp.shared_expert', QWEN_EXPERTS.shared_expert_intermediate_size),
      ['mlp.shared_expert_gate.weight', [1, hidden]],
    ];
    const own: TensorShape[] = [
      ['input_layernorm.weight', [hidden]],
      ['post_attention_layernorm.weight', [hidden]],
      ['self_attn.q_proj.weight', [attended, hidden]],
      ['self_attn.q_proj.bias', [attended]],
      ...['k_proj', 'v_proj'].flatMap((name): TensorShape[] => [
        [`self_attn.${name}.weight`, [keys, hidden]],
        [`self_attn.${name}.bias`, [keys]],
      ]),
      ['self_attn.o_proj.weight', [hidden, attended]],
      ...(QWEN_EXPERTS.mlp_only_layers.includes(layer) ? mlp('mlp', QWEN_EXPERTS.intermediate_size) : sparse),
    ];
    return own.map(([name, shape]): TensorShape => [`layers.${layer}.${name}`, shape]);
  });
  return [['embed_tokens.weight', [QWEN_EXPERTS.vocab_size, hidden]], ...ofLayers, ['norm.weight', [hidden]]];
}

/** DeepSeek V3 in small, without experts: values are narrower than keys, or as wide as these. */
const DEEPSEEK = {
  model_type: 'deepseek_v3',
  vocab_size: 1024,
  hidden_size: 256,
  intermediate_size: 640,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 8,
  q_lora_rank: 96,
  kv_lora_rank: 64,
  qk_nope_head_dim: 32,
  qk_rope_head_dim: 16,
  first_k_dense_replace: 4,
  max_position_embeddings: 1024,
  tie_word_embeddings: true,
};

/** Writes a base model with latent attention and arbitrary weights, and removes it after `use`. */
export async function withProbeLatent<Result>(
  use: (folder: ModelFolder) => Promise<Result>,
  kind: 'narrow values' | 'wide values',
): Promise<Result> {
  const config = { ...DEEPSEEK, v_head_dim: kind === 'narrow values' ? 32 : 48 };
  return await withProbeFolder(config, latentShapes(config.v_head_dim), use);
}

function latentShapes(valueDim: number): TensorShape[] {
  const { hidden_size: hidden, num_attention_heads: heads, q_lora_rank: queryRank, kv_lora_rank: rank } = DEEPSEEK;
  const { qk_nope_head_dim: plain, qk_rope_head_dim: turned, intermediate_size: intermediate } = DEEPSEEK;
  const own: TensorShape[] = [
    ['input_layernorm.weight', [hidden]],
    ['post_attention_layernorm.weight', [hidden]],
    ['self_attn.q_a_proj.weight', [queryRank, hidden]],
    ['self_attn.q_a_layernorm.weight', [queryRank]],
    ['self_attn.q_b_proj.weight', [heads * (plain + turned), queryRank]],
    ['self_attn.kv_a_proj_with_mqa.weight', [rank + turned, hidden]],
    ['self_attn.kv_a_layernorm.weight', [rank]],
    ['self_attn.kv_b_proj.weight', [heads * (plain + valueDim), rank]],
    ['self_attn.o_proj.weight', [hidden, heads * valueDim]],
    ['mlp.gate_proj.weight', [intermediate, hidden]],
    ['mlp.up_proj.weight', [intermediate, hidden]],
    ['mlp.down_proj.weight', [hidden, intermediate]],
  ];
  const ofLayers = Array.from({ length: DEEPSEEK.num_hidden_layers }, (_, layer) =>
    own.map(([name, shape]): TensorShape => [`layers.${layer}.${name}`, shape]),
  );
  return [['embed_tokens.weight', [DEEPSEEK.vocab_size, hidden]], ...ofLayers.flat(), ['norm.weight', [hidden]]];
}

/** Gemma 4 E2B in small: two of six layers read keys and values of earlier ones, and have wider MLPs. */
const SMALL_GEMMA4 = {
  model_type: 'gemma4_text',
  vocab_size: 2048,
  vocab_size_per_layer_input: 2048,
  hidden_size: 256,
  intermediate_size: 768,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 1,
  head_dim: 32,
  global_head_dim: 64,
  hidden_size_per_layer_input: 64,
  num_kv_shared_layers: 2,
  use_double_wide_mlp: true,
  layer_types: ['sliding', 'full', 'sliding', 'full', 'sliding', 'full'].map((type) => `${type}_attention`),
  max_position_embeddings: 1024,
};

interface Gemma4Config extends Readonly<typeof SMALL_GEMMA4> {
  enable_moe_block?: boolean;
  num_experts?: number;
  top_k_experts?: number;
  moe_intermediate_size?: number;
}

const GEMMA4 = {
  small: SMALL_GEMMA4,
  /** Heads as wide as those of the published models. */
  'wide heads': { ...SMALL_GEMMA4, num_attention_heads: 4, head_dim: 256, global_head_dim: 512 },
  experts: { ...SMALL_GEMMA4, enable_moe_block: true, num_experts: 12, top_k_experts: 4, moe_intermediate_size: 192 },
} satisfies Record<string, Gemma4Config>;

export type ProbeGemma4 = keyof typeof GEMMA4;

/** Writes a base model of Gemma 4 with arbitrary weights and removes it after `use`. */
export async function withProbeGemma4<Result>(
  use: (folder: ModelFolder) => Promise<Result>,
  kind: ProbeGemma4 = 'small',
): Promise<Result> {
  const config = GEMMA4[kind];
  return await withProbeFolder(config, gemmaShapes(config), use);
}

function gemmaShapes(config: Gemma4Config): TensorShape[] {
  const { hidden_size: hidden, num_hidden_layers: layers, hidden_size_per_layer_input: size } = config;
  const ofLayers = config.layer_types.flatMap((type, layer): TensorShape[] => {
    const headDim = type === 'full_attention' ? config.global_head_dim : config.head_dim;
    const attended = config.num_attention_heads * headDim;
    const isReader = layer >= layers - config.num_kv_shared_layers;
    const intermediate = (isReader ? 2 : 1) * config.intermediate_size;
    const norms = [
      ...['input_layernorm', 'post_attention_layernorm', 'pre_feedforward_layernorm', 'post_feedforward_layernorm'],
      'post_per_layer_input_norm',
    ];
    const own: TensorShape[] = [
      ...norms.map((name): TensorShape => [`${name}.weight`, [hidden]]),
      ['layer_scalar', [1]],
      ['self_attn.q_proj.weight', [attended, hidden]],
      ['self_attn.q_norm.weight', [headDim]],
      ['self_attn.o_proj.weight', [hidden, attended]],
      ['mlp.gate_proj.weight', [intermediate, hidden]],
      ['mlp.up_proj.weight', [intermediate, hidden]],
      ['mlp.down_proj.weight', [hidden, intermediate]],
      ['per_layer_input_gate.weight', [size, hidden]],
      ['per_layer_projection.weight', [hidden, size]],
    ];
    const keysAndValues: TensorShape[] = [
      ['self_attn.k_proj.weight', [headDim, hidden]],
      ['self_attn.v_proj.weight', [headDim, hidden]],
      ['self_attn.k_norm.weight', [headDim]],
    ];
    const all = [...own, ...(isReader ? [] : keysAndValues), ...expertShapes(config)];
    return all.map(([name, shape]): TensorShape => [`layers.${layer}.${name}`, shape]);
  });
  return [
    ['embed_tokens.weight', [config.vocab_size, hidden]],
    ['embed_tokens_per_layer.weight', [config.vocab_size_per_layer_input, layers * size]],
    ['per_layer_model_projection.weight', [layers * size, hidden]],
    ['per_layer_projection_norm.weight', [size]],
    ...ofLayers,
    ['norm.weight', [hidden]],
  ];
}

/** Tensors of a layer that has experts in addition to its MLP. */
function expertShapes(config: Gemma4Config): TensorShape[] {
  const { enable_moe_block: hasExperts, num_experts: experts = 0, moe_intermediate_size: intermediate = 0 } = config;
  if (!hasExperts) return [];
  const hidden = config.hidden_size;
  const norms = ['pre_feedforward_layernorm_2', 'post_feedforward_layernorm_1', 'post_feedforward_layernorm_2'];
  return [
    ...norms.map((name): TensorShape => [`${name}.weight`, [hidden]]),
    ['router.proj.weight', [experts, hidden]],
    ['router.scale', [hidden]],
    ['router.per_expert_scale', [experts]],
    ['experts.gate_up_proj', [experts, 2 * intermediate, hidden]],
    ['experts.down_proj', [experts, hidden, intermediate]],
  ];
}

/** A tensor of a model, without `model.` before its name. */
type TensorShape = [name: string, shape: number[]];

/** Writes a base model with arbitrary weights in float32 and removes it after `use`. */
async function withProbeFolder<Result>(
  config: Readonly<Record<string, unknown>>,
  shapes: readonly TensorShape[],
  use: (folder: ModelFolder) => Promise<Result>,
): Promise<Result> {
  const path = await mkdtemp(join(tmpdir(), 'lorasmith-probe-'));
  try {
    await writeFile(join(path, 'config.json'), JSON.stringify(config));
    const tensors = shapes.map(([name, shape]) => ({
      ...{ name: `model.${name}`, dtype: 'F32' as const, shape },
      data: async () => weights(shape),
    }));
    await writeSafetensors(join(path, 'model.safetensors'), tensors);
    return await use(await readModelFolder(path));
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

/** Small numbers that differ; their values do not matter. */
function weights(shape: number[]): Uint8Array {
  const count = shape.reduce((product, dimension) => product * dimension, 1);
  return new Uint8Array(Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 1009) / 20_000 - 0.025).buffer);
}
