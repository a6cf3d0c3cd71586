import type { DecoderArchitecture } from '../architecture.js';
import { readDecoderConfig, withWindows } from './decoder-config.js';
import { decoderLayout } from './decoder-layout.js';
import { LLAMA_NAMES } from './decoder-names.js';
import type { Family } from './family.js';
import { readLayerTypes } from './layer-windows.js';

/** Mistral 7B and similar models (arXiv:2310.06825): the same window in all layers; transformers' `MistralConfig`. */
export const mistral: Family<DecoderArchitecture> = {
  covers: 'with its sliding windows',
  gguf: { architecture: 'llama', activation: 'silu', adjacentPairs: true, ropeFactors: ['llama3', 'longrope'] },
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'mistral',
      causalLm: 'MistralForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 131_072,
      bosTokenId: 1,
      eosTokenIds: [2],
      keyValueHeadCount: 8,
    });
    const window = config.sizeOrNull('sliding_window', 4096);
    const type = window === null ? 'full_attention' : 'sliding_attention';
    // transformers reads a config with layers of both types as another family (ministral).
    const types = readLayerTypes(config, decoder.layerCount, () => type);
    if (types.some((each) => each !== type)) throw config.unsupported('layer_types', `is not supported; ${type} is`);
    const windows = types.map(() => window);
    return { ...decoder, layers: withWindows(decoder.layers, windows) };
  },
  layout: decoderLayout,
};
