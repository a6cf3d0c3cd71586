import type { DecoderArchitecture } from '../architecture.js';
import { decoderLayout } from './decoder-layout.js';
import { LATENT_NAMES } from './decoder-names.js';
import { ROUTED_EXPERT_NAMES, readRoutedExperts, sparseAfterFirst, withExperts } from './experts.js';
import type { Family } from './family.js';
import { readLatentDecoder } from './latent-attention.js';
import { readQueryGrowth } from './ministral3.js';

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
      turnsShareOfHead: true,
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
