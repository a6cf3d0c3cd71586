import type { ModelFolder } from '@lorasmith/model-folder';
import { type TensorShape, withProbeFolder } from './probe-folder.js';

/** DeepSeek V3 in small, without experts: values are narrower than keys, or as wide as these. */
const CONFIG = {
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
  const config = { ...CONFIG, v_head_dim: kind === 'narrow values' ? 32 : 48 };
  return await withProbeFolder(config, tensorShapes(config.v_head_dim), use);
}

function tensorShapes(valueDim: number): TensorShape[] {
  const { hidden_size: hidden, num_attention_heads: heads, q_lora_rank: queryRank, kv_lora_rank: rank } = CONFIG;
  const { qk_nope_head_dim: plain, qk_rope_head_dim: turned, intermediate_size: intermediate } = CONFIG;
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
  const ofLayers = Array.from({ length: CONFIG.num_hidden_layers }, (_, layer) =>
    own.map(([name, shape]): TensorShape => [`layers.${layer}.${name}`, shape]),
  );
  return [['embed_tokens.weight', [CONFIG.vocab_size, hidden]], ...ofLayers.flat(), ['norm.weight', [hidden]]];
}
