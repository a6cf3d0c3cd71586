import type { GgufTensor } from './gguf-header.js';
import type { GgufMetadata } from './gguf-metadata.js';
import type { Llama3Scaling } from './rope-factors.js';

/** Keys that are read, and keys that are accepted with a value that has no effect. Any other key is rejected. */
const KNOWN_KEYS = new Set([
  'attention.causal',
  'attention.head_count',
  'attention.head_count_kv',
  'attention.key_length',
  'attention.layer_norm_rms_epsilon',
  'attention.value_length',
  'block_count',
  'context_length',
  'embedding_length',
  'expert_count',
  'expert_used_count',
  'feed_forward_length',
  'rope.dimension_count',
  'rope.freq_base',
  'rope.scaling.type',
  'tensor_data_layout',
  'vocab_size',
]);

const MAX_LAYERS = 1_000;

/** The settings of a llama model that determine the names and order of its tensors and its config.json. */
export interface LlamaSettings {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layerCount: number;
  headCount: number;
  keyValueHeadCount: number;
  headDim: number;
  normEpsilon: number;
  ropeTheta: number;
  maxPositions: number;
  attentionBias: boolean;
  mlpBias: boolean;
  tiedHead: boolean;
}

/**
 * Reads the keys `llama.*`.
 *
 * @throws ProductError naming the key: model_not_supported for another architecture or a setting that Lorasmith cannot train;
 *   model_file_corrupt
 */
export function readLlamaSettings(metadata: GgufMetadata, tensors: ReadonlyMap<string, GgufTensor>): LlamaSettings {
  refuseUnsupported(metadata);
  const hiddenSize = metadata.size('llama.embedding_length');
  const headCount = metadata.size('llama.attention.head_count');
  const headDim = metadata.size('llama.attention.key_length', hiddenSize / headCount);
  for (const key of ['llama.attention.value_length', 'llama.rope.dimension_count']) {
    if (metadata.size(key, headDim) !== headDim) {
      throw metadata.unsupported(key, `${metadata.size(key)} differs from the size of a head, ${headDim}`);
    }
  }
  const layerCount = metadata.size('llama.block_count');
  if (layerCount > MAX_LAYERS) throw metadata.corrupt('llama.block_count', `must be at most ${MAX_LAYERS}`);
  const tokens = metadata.texts('tokenizer.ggml.tokens').length;
  const vocabSize = metadata.size('llama.vocab_size', tokens);
  if (vocabSize !== tokens)
    throw metadata.corrupt('llama.vocab_size', `is ${vocabSize}, but the file has ${tokens} tokens`);
  return {
    vocabSize,
    hiddenSize,
    intermediateSize: metadata.size('llama.feed_forward_length'),
    layerCount,
    headCount,
    keyValueHeadCount: metadata.size('llama.attention.head_count_kv', headCount),
    headDim,
    normEpsilon: metadata.positiveNumber('llama.attention.layer_norm_rms_epsilon'),
    ropeTheta: metadata.positiveNumber('llama.rope.freq_base', 10_000),
    maxPositions: metadata.size('llama.context_length'),
    attentionBias: tensors.has('blk.0.attn_q.bias'),
    mlpBias: tensors.has('blk.0.ffn_gate.bias'),
    tiedHead: !tensors.has('output.weight'),
  };
}

function refuseUnsupported(metadata: GgufMetadata): void {
  const architecture = metadata.text('general.architecture');
  if (architecture !== 'llama') {
    throw metadata.unsupported('general.architecture', `"${architecture?.slice(0, 100)}" is not supported; "llama" is`);
  }
  const type = metadata.text('general.type') ?? 'model';
  if (type !== 'model') throw metadata.unsupported('general.type', `"${type.slice(0, 100)}" is not a base model`);
  if (metadata.has('split.count') && metadata.size('split.count') > 1) {
    throw metadata.unsupported(
      'split.count',
      'shows that the model is split into several files. Join them with llama-gguf-split',
    );
  }
  for (const key of metadata.keys()) {
    if (key.startsWith('llama.') && !KNOWN_KEYS.has(key.slice('llama.'.length))) {
      throw metadata.unsupported(key, 'is not supported');
    }
  }
  if (!metadata.flag('llama.attention.causal', true)) {
    throw metadata.unsupported('llama.attention.causal', 'is false, which is not supported');
  }
  const scaling = metadata.text('llama.rope.scaling.type') ?? 'none';
  if (scaling !== 'none') {
    throw metadata.unsupported('llama.rope.scaling.type', `"${scaling.slice(0, 100)}" is not supported`);
  }
  // 0 means a model without experts.
  for (const key of ['llama.expert_count', 'llama.expert_used_count']) {
    if (metadata.has(key) && metadata.count(key) !== 0) throw metadata.unsupported(key, 'is not supported');
  }
}

/**
 * The config.json of `LlamaForCausalLM`, as written by transformers.
 *
 * It contains theta and dtype under their old names too: older releases of transformers 4 would silently use 10,000 for theta.
 */
export function llamaConfigJson(
  settings: LlamaSettings,
  metadata: GgufMetadata,
  scaling: Llama3Scaling | null,
): Record<string, unknown> {
  const { vocabSize } = settings;
  const ropeSettings = scaling ? { rope_type: 'llama3', ...scaling } : { rope_type: 'default' };
  return {
    _model_name_or_path: metadata.text('general.name') ?? '',
    architectures: ['LlamaForCausalLM'],
    attention_bias: settings.attentionBias,
    attention_dropout: 0,
    bos_token_id: metadata.tokenId('tokenizer.ggml.bos_token_id', vocabSize),
    dtype: 'bfloat16',
    eos_token_id: metadata.tokenId('tokenizer.ggml.eos_token_id', vocabSize),
    head_dim: settings.headDim,
    hidden_act: 'silu',
    hidden_size: settings.hiddenSize,
    initializer_range: 0.02,
    intermediate_size: settings.intermediateSize,
    max_position_embeddings: settings.maxPositions,
    mlp_bias: settings.mlpBias,
    model_type: 'llama',
    num_attention_heads: settings.headCount,
    num_hidden_layers: settings.layerCount,
    num_key_value_heads: settings.keyValueHeadCount,
    pad_token_id: metadata.tokenId('tokenizer.ggml.padding_token_id', vocabSize),
    pretraining_tp: 1,
    rms_norm_eps: settings.normEpsilon,
    rope_parameters: { rope_theta: settings.ropeTheta, ...ropeSettings },
    rope_scaling: scaling ? ropeSettings : null,
    rope_theta: settings.ropeTheta,
    tie_word_embeddings: settings.tiedHead,
    torch_dtype: 'bfloat16',
    unk_token_id: metadata.tokenId('tokenizer.ggml.unknown_token_id', vocabSize),
    use_cache: true,
    vocab_size: vocabSize,
  };
}

/** The generation_config.json. Besides the end-of-text token, other end-of-turn and end-of-message tokens end a text. */
export function generationConfigJson({ vocabSize }: LlamaSettings, metadata: GgufMetadata): Record<string, unknown> {
  const ends = ['eos_token_id', 'eot_token_id', 'eom_token_id']
    .map((key) => metadata.tokenId(`tokenizer.ggml.${key}`, vocabSize))
    .filter((id) => id !== null);
  const distinct = [...new Set(ends)];
  return {
    _from_model_config: true,
    bos_token_id: metadata.tokenId('tokenizer.ggml.bos_token_id', vocabSize),
    eos_token_id: distinct.length > 1 ? distinct : (distinct[0] ?? null),
    pad_token_id: metadata.tokenId('tokenizer.ggml.padding_token_id', vocabSize),
    use_cache: true,
  };
}
