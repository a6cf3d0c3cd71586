import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import type { Family } from './family.js';

/** Qwen2 and Qwen2.5 (arXiv:2407.10671): a bias on q, k and v and nowhere else; transformers' `Qwen2Config`. */
export const qwen2: Family<DecoderArchitecture> = {
  readArchitecture(source) {
    const { config } = source;
    if (config.flag('use_sliding_window', false)) {
      throw config.unsupported('use_sliding_window', 'is not supported: attention must see the whole sequence');
    }
    const layerTypes = config.value('layer_types');
    if (Array.isArray(layerTypes) && layerTypes.some((type) => type !== 'full_attention')) {
      throw config.unsupported('layer_types', 'is not supported; only "full_attention" is');
    }
    const decoder = readDecoderConfig(source, {
      causalLm: 'Qwen2ForCausalLM',
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenIds: [],
    });
    return {
      ...decoder,
      family: 'qwen2',
      bias: { query: true, key: true, value: true, output: false, mlp: false },
    };
  },
  layout: decoderLayout,
};
