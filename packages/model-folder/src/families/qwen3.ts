import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';
import { readQwenWindows } from './layer-windows.js';

/** Qwen3 (arXiv:2505.09388): norms of each head's query and key; transformers' `Qwen3Config`. */
export const qwen3: Family<DecoderArchitecture> = {
  covers: 'with its sliding windows',
  gguf: { architecture: 'qwen3', activation: 'silu', biases: [] },
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'qwen3',
      causalLm: 'Qwen3ForCausalLM',
      names: { ...LLAMA_NAMES, queryNorm: 'self_attn.q_norm', keyNorm: 'self_attn.k_norm' },
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenIds: [],
      keyValueHeadCount: 32,
      headDim: 128,
    });
    return {
      ...decoder,
      layers: withWindows(decoder.layers, readQwenWindows(source.config, decoder.layerCount)),
      bias: { ...attentionBias(source.config), mlp: false },
    };
  },
  layout: decoderLayout,
};
