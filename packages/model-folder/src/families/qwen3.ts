import type { DecoderArchitecture } from '../architecture.js';
import { attentionBias, readDecoderConfig } from '../config/decoder-config.js';
import { EXPERT_NAMES, readExperts } from '../config/experts.js';
import { readQwenWindows, withWindows } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

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

/** Qwen3 with experts in the place of most MLPs (arXiv:2505.09388); transformers' `Qwen3MoeConfig`. */
export const qwen3Moe: Family<DecoderArchitecture> = {
  covers: 'Qwen3 with experts (30B-A3B, 235B-A22B, Coder)',
  gguf: { architecture: 'qwen3moe', activation: 'silu', biases: [], experts: { renormalized: true } },
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'qwen3_moe',
      causalLm: 'Qwen3MoeForCausalLM',
      names: { ...LLAMA_NAMES, queryNorm: 'self_attn.q_norm', keyNorm: 'self_attn.k_norm', experts: EXPERT_NAMES },
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenIds: [],
      headCount: 32,
      keyValueHeadCount: 4,
    });
    const window = config.flag('use_sliding_window', false) ? config.sizeOrNull('sliding_window', 4096) : null;
    const layers = withWindows(
      decoder.layers,
      decoder.layers.map(() => window),
    );
    return {
      ...decoder,
      layers: readExperts(source, { ...decoder, layers }, { count: 128, perToken: 8, intermediateSize: 768 }),
      bias: { ...attentionBias(config), mlp: false },
    };
  },
  layout: decoderLayout,
};
