import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import { readExperts, SHARED_EXPERT_NAMES } from './experts.js';
import type { Family } from './family.js';
import { readLayerTypes, windowsOf } from './layer-windows.js';

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
