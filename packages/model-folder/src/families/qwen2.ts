import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig } from '../config/decoder-config.js';
import { readExperts, SHARED_EXPERT_NAMES } from '../config/experts.js';
import { readLayerTypes, readQwenWindows, windowsOf, withWindows } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import { LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

/** Qwen2 and Qwen2.5 (arXiv:2407.10671): biases on q, k and v only; transformers' `Qwen2Config`. */
export const qwen2: Family<DecoderArchitecture> = {
  covers: 'with its sliding windows',
  gguf: { architecture: 'qwen2', activation: 'silu', headsFillHidden: true },
  readArchitecture(source) {
    const decoder = readDecoderConfig(source, {
      family: 'qwen2',
      causalLm: 'Qwen2ForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenIds: [],
      keyValueHeadCount: 32,
    });
    return {
      ...decoder,
      layers: withWindows(decoder.layers, readQwenWindows(source.config, decoder.layerCount)),
      bias: { queryKeyValue: true, attentionOutput: false, mlp: false },
    };
  },
  layout: decoderLayout,
};

/**
 * Qwen1.5 and Qwen2 with experts in the place of most MLPs, one of which all tokens pass (arXiv:2407.10671); transformers'
 * `Qwen2MoeConfig`.
 */
export const qwen2Moe: Family<DecoderArchitecture> = {
  covers: 'Qwen1.5 and Qwen2 with experts, one of which all tokens pass',
  gguf: {
    architecture: 'qwen2moe',
    activation: 'silu',
    headsFillHidden: true,
    ownHead: true,
    biases: ['queryKeyValue'],
    experts: { renormalized: false },
  },
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'qwen2_moe',
      causalLm: 'Qwen2MoeForCausalLM',
      names: { ...LLAMA_NAMES, experts: SHARED_EXPERT_NAMES },
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenIds: [],
      headCount: 16,
      keyValueHeadCount: 16,
    });
    const isWindowed = config.flag('use_sliding_window', false);
    const window = isWindowed ? config.sizeOrNull('sliding_window', 4096) : null;
    const windowedLayers = config.count('max_window_layers', 28);
    // As in transformers, only those with an even index have a window.
    const types = readLayerTypes(config, decoder.layerCount, (layer) =>
      isWindowed && layer % 2 === 0 && layer < windowedLayers ? 'sliding_attention' : 'full_attention',
    );
    const layers = withWindows(decoder.layers, windowsOf(config, types, window));
    const experts = { count: 60, perToken: 4, intermediateSize: 1408, sharedIntermediateSize: 5632 };
    return {
      ...decoder,
      layers: readExperts(source, { ...decoder, layers }, experts),
      bias: { queryKeyValue: config.flag('qkv_bias', true), attentionOutput: false, mlp: false },
    };
  },
  layout: decoderLayout,
};
