import type { ModelFolder } from '@lorasmith/model-folder';
import { type TensorShape, withProbeFolder } from './probe-folder.js';

/** Gemma 4 E2B in small: two of six layers read keys and values of earlier ones, and have wider MLPs. */
const SMALL = {
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

interface ProbeConfig extends Readonly<typeof SMALL> {
  enable_moe_block?: boolean;
  num_experts?: number;
  top_k_experts?: number;
  moe_intermediate_size?: number;
}

const CONFIGS = {
  small: SMALL,
  /** Heads as wide as those of the published models. */
  'wide heads': { ...SMALL, num_attention_heads: 4, head_dim: 256, global_head_dim: 512 },
  experts: { ...SMALL, enable_moe_block: true, num_experts: 12, top_k_experts: 4, moe_intermediate_size: 192 },
} satisfies Record<string, ProbeConfig>;

export type ProbeGemma4 = keyof typeof CONFIGS;

/** Writes a base model of Gemma 4 with arbitrary weights and removes it after `use`. */
export async function withProbeGemma4<Result>(
  use: (folder: ModelFolder) => Promise<Result>,
  kind: ProbeGemma4 = 'small',
): Promise<Result> {
  const config = CONFIGS[kind];
  return await withProbeFolder(config, tensorShapes(config), use);
}

function tensorShapes(config: ProbeConfig): TensorShape[] {
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

/** Tensors of a layer that has experts beside its MLP. */
function expertShapes(config: ProbeConfig): TensorShape[] {
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
