/**
 * config.json, with theta and dtype under their old names too: releases of transformers 4 that do not know the new ones would
 * silently use 10,000 for theta.
 */
export const CONFIG = {
  _model_name_or_path: 'Smollm2 135M 8k Lc100K Mix1 Ep2',
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 1,
  dtype: 'bfloat16',
  eos_token_id: 2,
  head_dim: 64,
  hidden_act: 'silu',
  hidden_size: 576,
  initializer_range: 0.02,
  intermediate_size: 1536,
  max_position_embeddings: 8192,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  pad_token_id: 2,
  pretraining_tp: 1,
  // The GGUF has it in float32.
  rms_norm_eps: Math.fround(1e-5),
  rope_parameters: { rope_theta: 100_000, rope_type: 'default' },
  rope_scaling: null,
  rope_theta: 100_000,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  unk_token_id: 0,
  use_cache: true,
  vocab_size: 49_152,
};

/** generation_config.json. */
export const GENERATION_CONFIG = {
  _from_model_config: true,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 2,
  use_cache: true,
};
