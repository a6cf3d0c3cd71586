import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';
import { readQwenWindows } from './layer-windows.js';

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
