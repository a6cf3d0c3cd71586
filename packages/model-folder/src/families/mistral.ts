import type { DecoderArchitecture, QueryGrowth } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { readDecoderConfig } from '../config/decoder-config.js';
import { ROUTED_EXPERT_NAMES, readRoutedExperts, sparseAfterFirst, withExperts } from '../config/experts.js';
import { readLatentDecoder } from '../config/latent-attention.js';
import { readLayerTypes, withWindows } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import { LATENT_NAMES, LLAMA_NAMES } from '../decoder-names.js';
import type { Family } from './family.js';

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

/**
 * Ministral 3: Mistral with YaRN, whose queries grow with their position beyond the original context; transformers'
 * `Ministral3Config`.
 */
export const ministral3: Family<DecoderArchitecture> = {
  covers: 'queries that grow beyond the original context',
  readArchitecture(source) {
    const { config } = source;
    const decoder = readDecoderConfig(source, {
      family: 'ministral3',
      causalLm: 'Ministral3ForCausalLM',
      names: LLAMA_NAMES,
      maxPositions: 262_144,
      bosTokenId: 1,
      eosTokenIds: [2],
      normEpsilon: { fallback: 1e-5 },
      keyValueHeadCount: 8,
      headDim: 128,
    });
    const window = config.sizeOrNull('sliding_window', null);
    return {
      ...decoder,
      attention: { ...decoder.attention, queryGrowth: readQueryGrowth(config) },
      layers: withWindows(
        decoder.layers,
        decoder.layers.map(() => window),
      ),
    };
  },
  layout: decoderLayout,
};

/** Reads how queries grow with their position. @throws ProductError model_file_corrupt */
export function readQueryGrowth(config: ConfigFields): QueryGrowth {
  const rope = config.nested('rope_parameters');
  if (rope === undefined) throw config.corrupt('rope_parameters', 'is missing');
  return {
    beta: rope.positiveNumber('llama_4_scaling_beta'),
    originalMaxPositions: rope.size('original_max_position_embeddings'),
  };
}

/**
 * Mistral 4: DeepSeek's latent attention, whose queries grow with their position as in Ministral 3, and experts whose router scores by
 * softmax; transformers' `Mistral4Config`.
 */
export const mistral4: Family<DecoderArchitecture> = {
  covers: 'Mistral 4: as `deepseek_v3`, with the positions of Ministral 3 and a router that scores by softmax',
  readArchitecture(source) {
    const { config } = source;
    const decoder = readLatentDecoder(source, {
      family: 'mistral4',
      causalLm: 'Mistral4ForCausalLM',
      names: { ...LATENT_NAMES, experts: { ...ROUTED_EXPERT_NAMES, correction: null } },
      vocabSize: 131_072,
      maxPositions: 1_048_576,
      bosTokenId: 1,
      eosTokenIds: [2],
      intermediateSize: 12_288,
      headCount: 32,
      keyValueHeadCount: 32,
      latent: { queryRank: 1024, keyValueRank: 256, plainDim: 64, rotaryDim: 64, valueDim: 128 },
      ropeOfWholeHead: true,
    });
    const queryGrowth = readQueryGrowth(config);
    const sparse = sparseAfterFirst(source, decoder.layerCount, 0);
    const routed = readRoutedExperts(source, decoder, sparse, {
      ...{ count: 128, perToken: 4, intermediateSize: 2048, shared: 1 },
      ...{ groups: 1, groupsPerToken: 1, scale: 1, renormalized: true },
    });
    if (routed !== null && routed.sigmoid!.groups > 1) {
      throw config.unsupported('n_group', 'is not supported: 1 is');
    }
    if (routed !== null && routed.sigmoid!.scale !== 1) {
      throw config.unsupported('routed_scaling_factor', 'is not supported: 1 is');
    }
    return {
      ...decoder,
      attention: { ...decoder.attention, queryGrowth },
      layers: withExperts(decoder.layers, routed && { ...routed, sigmoid: undefined }, sparse),
    };
  },
  layout: decoderLayout,
};
