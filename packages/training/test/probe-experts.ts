import type { ModelFolder } from '@lorasmith/model-folder';
import { type TensorShape, withProbeFolder } from './probe-folder.js';

/** Qwen2 with experts in small: the widths of an MLP, of a shared expert and of all experts of a token differ. */
const CONFIG = {
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
  return await withProbeFolder(CONFIG, tensorShapes(), use);
}

function tensorShapes(): TensorShape[] {
  const { hidden_size: hidden, num_hidden_layers: layers, num_experts: experts } = CONFIG;
  const attended = CONFIG.num_attention_heads * CONFIG.head_dim;
  const keys = CONFIG.num_key_value_heads * CONFIG.head_dim;
  const ofLayers = Array.from({ length: layers }, (_, layer) => layer).flatMap((layer) => {
    const mlp = (path: string, intermediate: number): TensorShape[] => [
      [`${path}.gate_proj.weight`, [intermediate, hidden]],
      [`${path}.up_proj.weight`, [intermediate, hidden]],
      [`${path}.down_proj.weight`, [hidden, intermediate]],
    ];
    const sparse: TensorShape[] = [
      ['mlp.gate.weight', [experts, hidden]],
      ['mlp.experts.gate_up_proj', [experts, 2 * CONFIG.moe_intermediate_size, hidden]],
      ['mlp.experts.down_proj', [experts, hidden, CONFIG.moe_intermediate_size]],
      ...mlp('mlp.shared_expert', CONFIG.shared_expert_intermediate_size),
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
      ...(CONFIG.mlp_only_layers.includes(layer) ? mlp('mlp', CONFIG.intermediate_size) : sparse),
    ];
    return own.map(([name, shape]): TensorShape => [`layers.${layer}.${name}`, shape]);
  });
  return [['embed_tokens.weight', [CONFIG.vocab_size, hidden]], ...ofLayers, ['norm.weight', [hidden]]];
}
